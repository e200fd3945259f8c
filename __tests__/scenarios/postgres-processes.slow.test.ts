import { testSeveralProcesses } from '../contract/several-processes.js'
import { startPostgresGrants } from '../helpers/grant-servers.js'
import { describeWithPostgresServer } from '../helpers/postgres.js'

describeWithPostgresServer('S90 several processes on one PostgreSQL', () =>
  testSeveralProcesses(startPostgresGrants, 4),
)
