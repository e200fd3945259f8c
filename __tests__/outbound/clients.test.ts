import { describeOutboundClient } from '../contract/outbound-client.js'
import { outboundClients } from '../helpers/outbound-clients.js'

for (const client of outboundClients) describeOutboundClient(client)
