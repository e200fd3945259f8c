/** Calls of clients that are neither axios nor fetch, as docs/other-clients.md shows them. */
import { ApolloClient, gql, HttpLink, InMemoryCache } from '@apollo/client/core'
import { type ClientUnaryCall, Metadata, type ServiceError, status } from '@grpc/grpc-js'
import got, { type Got } from 'got'
import createClient, { type Client } from 'openapi-fetch'
import type { SessionTokens } from 'session-token-manager'

/** As openapi-typescript makes it from the API's description. */
export interface paths {
  '/orders': { get: { responses: { 200: { content: { 'application/json': { orders: string[] } } } } } }
}

export function openapiFetchFor(tokens: SessionTokens, baseURL: string): Client<paths> {
  return createClient<paths>({ baseUrl: baseURL, fetch: tokens.fetch({ baseURL }) })
}

/** got asks for the token before each call. After a 401 it gets another one, and repeats the call once. */
export function gotFor(tokens: SessionTokens, prefixUrl: string): Got {
  return got.extend({
    prefixUrl,
    hooks: {
      beforeRequest: [
        async (options) => {
          const { token } = await tokens.getAccessToken()
          options.headers.authorization = `Bearer ${token}`
        },
      ],
      afterResponse: [
        async (response, retryWithMergedOptions) => {
          if (response.statusCode !== 401) return response
          const rejected = String(response.request.options.headers.authorization).slice('Bearer '.length)
          await tokens.getAccessToken({ rejected })
          return retryWithMergedOptions({})
        },
      ],
    },
  })
}

export function apolloFor(tokens: SessionTokens, uri: string): ApolloClient {
  return new ApolloClient({
    ssrMode: true,
    cache: new InMemoryCache(), // of this request alone: it holds this user's data
    link: new HttpLink({ uri, fetch: tokens.fetch({ baseURL: uri }) }),
  })
}

export const ORDERS = gql`
  query {
    orders
  }
`

type Done<Reply> = (error: ServiceError | null, reply?: Reply) => void

/** Makes a unary call of gRPC. After UNAUTHENTICATED it gets another token, and repeats the call once. */
export async function grpcCall<Reply>(
  tokens: SessionTokens,
  call: (metadata: Metadata, done: Done<Reply>) => ClientUnaryCall,
): Promise<Reply> {
  const { token } = await tokens.getAccessToken()
  try {
    return await callWith(token, call)
  } catch (error) {
    if ((error as ServiceError).code !== status.UNAUTHENTICATED) throw error
    const { token: next } = await tokens.getAccessToken({ rejected: token })
    return callWith(next, call)
  }
}

function callWith<Reply>(
  token: string,
  call: (metadata: Metadata, done: Done<Reply>) => ClientUnaryCall,
): Promise<Reply> {
  const metadata = new Metadata()
  metadata.set('authorization', `Bearer ${token}`)
  return new Promise((resolve, reject) => {
    call(metadata, (error, reply) => (error ? reject(error) : resolve(reply!)))
  })
}
