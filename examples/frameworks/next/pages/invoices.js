/** The page of the pages router has Node's request, and so `req.tokens`. */
export async function getServerSideProps({ req }) {
  const response = await req.tokens.fetch({ baseURL: process.env.API })('/orders')
  return { props: { text: await response.text() } }
}

export default function Invoices({ text }) {
  return <p>{text}</p>
}
