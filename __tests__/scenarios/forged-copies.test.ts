import { describe, expect, it } from '@jest/globals'
import type { Request } from 'express'
import { type GrantStore, memoryGrantStore, type SessionTokensOptions } from '../../lib/index.js'
import type { TokenSet } from '../../lib/token-set.js'
import type { Site } from '../helpers/site.js'
import { HOUR_MS, testSites } from '../helpers/test-sites.js'

const { server, start, held } = await testSites()

const key = 'UUa2j3oVjRk0c8Zs9CLtEz3uJgQmA7rS7T1a0YbKx5c='
const audience = (site: Site) => `${server.clients.client_secret_basic.clientId} ${site.tokenEndpoint}`
const someTokens = (token: string) => ({
  revision: 1_000_000,
  refreshToken: `RT-${token}`,
  accessTokens: [{ token, tokenType: 'Bearer', obtainedAt: Date.now(), expiresAt: Date.now() + HOUR_MS }],
})

/** What an attacker makes of the id of a grant. */
const forgeries: [string, (grantId: string, copy: Record<string, unknown>) => object][] = [
  ['of the version before, with nothing else', (grantId) => ({ version: 1, grantId, revision: 1, accessTokens: [] })],
  ['of the version before, with tokens', (grantId) => ({ version: 1, grantId, ...someTokens('mine') })],
  ['of this version, without a proof', (grantId) => ({ version: 2, grantId, ...someTokens('mine') })],
  ['with a proof of another grant', (grantId) => ({ version: 2, grantId, proof: 'mine', ...someTokens('mine') })],
  ['with the id for a proof', (grantId) => ({ version: 2, grantId, proof: grantId, ...someTokens('mine') })],
  ['that is a reference of the version before', (grantId) => ({ version: 1, grantId, key: 'mine' })],
  ['that is a reference', (grantId) => ({ version: 2, grantId, key: 'mine' })],
  ['that is a reference with the id for a key', (grantId) => ({ version: 2, grantId, key: grantId })],
]
