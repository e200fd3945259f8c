import { createSecureContext } from 'node:tls'
import { ConfigurationError } from '../../errors/token-error.js'
import { ownProperties } from '../../options/own-properties.js'
import type { ClientCertificate } from '../../tokens/client-certificate.js'
import type { ClientAuthentication } from './client-authentication.js'
import { authenticationOver, type RotatedSecret } from './rotated-secret.js'

/** A client certificate, or a function that returns the current one. */
export type ClientCertificateSource = RotatedSecret<ClientCertificate>

/** The client authentications that need a connection with a client certificate. */
const overTls = new WeakSet<object>()

/** Whether a client authenticates by the certificate of its connection, so that it uses the endpoints for that (RFC 8705 §5). */
export function usesCertificate(clientAuthentication: ClientAuthentication): boolean {
  return overTls.has(clientAuthentication)
}

/**
 * Authenticates with a certificate that a certificate authority has issued (RFC 8705 §2.1): connects to the authorization server
 * with it, and sends `client_id`. If the metadata has `mtls_endpoint_aliases`, these endpoints are used.
 *
 * @param certificate `{ cert, key, passphrase }` in PEM, or a function that returns them, so that a certificate can be renewed while
 *   the process runs. The function is called again when the last call was a minute ago. When it fails, the last certificate is used,
 *   and the event `secret_failed` tells.
 * @throws `ConfigurationError` when the certificate cannot be read, or the key belongs to another certificate.
 *
 * @example
 * clientAuthentication: tlsClientAuth({ cert: readFileSync('client.crt'), key: readFileSync('client.key') })
 */
export function tlsClientAuth(certificate: ClientCertificateSource): ClientAuthentication {
  return authenticationWith('tlsClientAuth', certificate)
}

/**
 * Authenticates with a certificate that the client has signed itself and registered (RFC 8705 §2.2). It works as
 * {@link tlsClientAuth} does.
 *
 * @throws `ConfigurationError` when the certificate cannot be read, or the key belongs to another certificate.
 *
 * @example
 * clientAuthentication: selfSignedTlsClientAuth(async () => ({ cert: await readFile('client.crt'), key: await readFile('client.key') }))
 */
export function selfSignedTlsClientAuth(certificate: ClientCertificateSource): ClientAuthentication {
  return authenticationWith('selfSignedTlsClientAuth', certificate)
}

function authenticationWith(name: string, source: ClientCertificateSource): ClientAuthentication {
  const authentication = authenticationOver(
    name,
    source,
    checkedCertificate,
    (certificate, { clientId }) => ({
      parameters: { client_id: clientId },
      certificate,
    }),
  )
  overTls.add(authentication)
  return authentication
}

/** @throws `ConfigurationError` for a certificate or a key that cannot be used. The message does not show the key */
function checkedCertificate(given: unknown, name: string): ClientCertificate {
  const cure = `Give the certificate and its key in PEM: ${name}({ cert, key }), and the passphrase if the key has one.`
  if (typeof given !== 'object' || given === null)
    throw new ConfigurationError(
      `${name}: the certificate must be an object, or a function that returns one. ${cure}`,
    )
  const { cert, key, passphrase } = ownProperties(given as ClientCertificate)
  if (!cert || !key) throw new ConfigurationError(`${name}: \`${cert ? 'key' : 'cert'}\` is missing. ${cure}`)
  const certificate = { cert, key, ...(passphrase !== undefined && { passphrase }) }
  try {
    createSecureContext(certificate)
  } catch {
    // The error of node:tls may quote the key.
    throw new ConfigurationError(
      `${name}: the certificate or the key cannot be read, or the key is not that of the certificate. ${cure}`,
    )
  }
  return certificate
}
