import express, { type Express } from 'express'
import { type AccessOptions, scope, verified } from '../demo/access.js'
import { shownToken } from './shown-token.js'

const INVOICES = [
  { number: '2026-017', due: '2026-12-01', amount: '137.50' },
  { number: '2026-009', due: 'paid', amount: '42.00' },
]

/** Another API. It accepts only tokens that were issued for it. */
export function billingApi(options: AccessOptions): Express {
  const app = express()
  app.use(verified(options))
  app.get('/invoices', scope('billing.read'), (req, res) => {
    res.json({ invoices: INVOICES, token: shownToken(req, res) })
  })
  return app
}
