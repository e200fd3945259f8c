import { sessionFetch } from 'session-token-manager'

// A page that is made for each request, with the tokens of that request.
export const dynamic = 'force-dynamic'

export default async function Orders() {
  const api = sessionFetch({ baseURL: process.env.API })
  const response = await api('/orders')
  return <p>{await response.text()}</p>
}
