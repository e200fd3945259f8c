import express, { type Express, type Request, type RequestHandler, type Response } from 'express'
import type { JWTPayload } from 'jose'
import { type AccessOptions, scope, verified } from '../demo/access.js'
import { shownToken } from './shown-token.js'

export interface ShopApiOptions extends AccessOptions {
  /** The interval between events of the orders. */
  readonly newsEveryMs: number
  /** How long ago a user who cancels an order may have logged in, in seconds. */
  readonly freshLoginSeconds: number
}

const CATALOGUE = [
  { item: 'Espresso machine', price: '289.00' },
  { item: 'Coffee grinder', price: '119.00' },
  { item: 'Milk jug', price: '24.00' },
]
type Order = (typeof CATALOGUE)[number] & { readonly id: number }
const FIRST_ORDERS: Order[] = [
  { id: 1001, item: 'Coffee grinder', price: '119.00' },
  { id: 1002, item: 'Two cups', price: '18.50' },
]
const STATES = ['packed', 'handed over', 'on its way', 'at the depot', 'out for delivery', 'at the door']

/** An API with a public catalogue, and the orders of a user, for requests with a token. */
export function shopApi(options: ShopApiOptions): Express {
  let orders = FIRST_ORDERS
  let lastId = 1002
  const app = express()
  app.get('/catalogue', (req, res) => void res.json({ items: CATALOGUE, token: shownToken(req, res) }))

  app.use(verified(options))
  app.get('/orders', scope('orders.read'), (req, res) => {
    res.json({ orders, token: shownToken(req, res) })
  })
  app.post('/orders', scope('orders.write'), (req, res) => {
    lastId += 1
    orders = [...orders, { id: lastId, item: 'Milk jug', price: '24.00' }]
    res.status(201).json({ ordered: 'Milk jug', token: shownToken(req, res) })
  })
  app.delete('/orders/:id', scope('orders.write'), loggedInWithin(options.freshLoginSeconds), (req, res) => {
    orders = orders.filter(({ id }) => String(id) !== req.params.id)
    res.json({ cancelled: req.params.id, token: shownToken(req, res) })
  })
  app.get('/orders/news', scope('orders.read'), (req, res) => {
    tellNews(req, res, () => orders, options.newsEveryMs)
  })
  return app
}

/** Lets requests pass if the user has logged in recently, and requires a new login otherwise (RFC 9470 §3). */
function loggedInWithin(seconds: number): RequestHandler {
  return (_req, res, next) => {
    const { auth_time: at } = res.locals.claims as JWTPayload
    if (Date.now() / 1000 - Number(at) <= seconds) return next()
    res.set('WWW-Authenticate', `Bearer error="insufficient_user_authentication", max_age="${seconds}"`)
    res.sendStatus(401)
  }
}

/** Server-sent events for as long as the client listens. The token is checked at the beginning. */
function tellNews(req: Request, res: Response, ordersNow: () => Order[], everyMs: number): void {
  res.writeHead(200, { 'Content-Type': 'text/event-stream', 'Cache-Control': 'no-store' })
  let count = 0
  const tell = () => {
    const orders = ordersNow()
    const order = orders[count % orders.length]
    if (!order) return
    const { id, item } = order
    const state = STATES[Math.floor(count / orders.length) % STATES.length]
    res.write(`data: ${JSON.stringify({ id, item, state, token: shownToken(req, res) })}\n\n`)
    count += 1
  }
  tell()
  const timer = setInterval(tell, everyMs)
  res.once('close', () => clearInterval(timer))
}
