import { testSlowAndKilledProcesses } from '../contract/several-processes-end.js'
import { startPostgresGrants } from '../helpers/grant-servers.js'
import { describeWithPostgresServer } from '../helpers/postgres.js'

describeWithPostgresServer('S90 processes that are slow, killed and restarted, on one PostgreSQL', () =>
  testSlowAndKilledProcesses(startPostgresGrants),
)
