import express, { type Express, type RequestHandler } from 'express'
import { createRemoteJWKSet, type JWTPayload, jwtVerify } from 'jose'

export interface OrdersApiOptions {
  readonly issuer: string
  /** This API, as access tokens name it. */
  readonly audience: string
  /** Is told of every call that brought a token. */
  readonly onCall: (accepted: boolean, accessToken: string) => void
  /** Resolves when the warehouse has confirmed an order. */
  readonly warehouse: () => Promise<void>
}

const ORDERS = [
  { id: 1001, item: 'Espresso machine', price: '289.00' },
  { id: 1002, item: 'Coffee grinder', price: '119.00' },
  { id: 1003, item: 'Two cups', price: '18.50' },
]

/** An API that takes the access tokens of one authorization server (RFC 9068). It knows nothing of sessions. */
export function ordersApi(options: OrdersApiOptions): Express {
  const app = express()
  app.use(verified(options))
  app.get('/orders', scope('orders.read'), (_req, res) => {
    res.json(ORDERS)
  })
  app.post('/orders', scope('orders.write'), async (_req, res) => {
    await options.warehouse()
    res.status(201).json({ id: 1004, item: 'Milk jug', price: '24.00' })
  })
  return app
}

function verified({ issuer, audience, onCall }: OrdersApiOptions): RequestHandler {
  const keys = createRemoteJWKSet(new URL(`${issuer}/jwks`))
  return async (req, res, next) => {
    const [, token] = /^Bearer (.+)$/i.exec(req.headers.authorization ?? '') ?? []
    if (token === undefined) return void res.set('WWW-Authenticate', 'Bearer').sendStatus(401)
    const claims = await jwtVerify(token, keys, { issuer, audience, typ: 'at+jwt' })
      .then(({ payload }) => payload)
      .catch(() => undefined)
    onCall(claims !== undefined, token)
    if (!claims) return void res.set('WWW-Authenticate', 'Bearer error="invalid_token"').sendStatus(401)
    res.locals.claims = claims
    next()
  }
}

function scope(needed: string): RequestHandler {
  return (_req, res, next) => {
    const { scope } = res.locals.claims as JWTPayload
    if (String(scope).split(' ').includes(needed)) return next()
    res.set('WWW-Authenticate', `Bearer error="insufficient_scope", scope="${needed}"`).sendStatus(403)
  }
}
