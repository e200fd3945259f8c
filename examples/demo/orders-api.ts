import express, { type Express } from 'express'
import { type AccessOptions, scope, verified } from './access.js'

export interface OrdersApiOptions extends AccessOptions {
  /** Resolves when the warehouse has confirmed an order. */
  readonly warehouse: () => Promise<void>
}

const ORDERS = [
  { id: 1001, item: 'Espresso machine', price: '289.00' },
  { id: 1002, item: 'Coffee grinder', price: '119.00' },
  { id: 1003, item: 'Two cups', price: '18.50' },
]

/** An API that takes the access tokens of one authorization server (RFC 9068). It has no sessions. */
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
