/** A client certificate with its private key, in PEM. */
export interface ClientCertificate {
  readonly cert: string | Buffer
  readonly key: string | Buffer
  /** Opens the key, if it is encrypted. */
  readonly passphrase?: string
}
