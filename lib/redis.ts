export type {
  GrantEnd,
  GrantRecord,
  GrantState,
  GrantStore,
  LeaseRequest,
  RecentEnd,
  Retention,
} from './grants/grant-store.js'
export type { IoredisClient, NodeRedisClient, RedisClient, RedisCommands } from './grants/redis/client.js'
export {
  type RedisGrantStore,
  type RedisGrantStoreOptions,
  redisGrantStore,
} from './grants/redis/redis-grant-store.js'
