import { generateKeyPairSync, sign } from 'node:crypto'

/** A certificate that nobody has to trust, with its key, for a TLS server of a test: X.509, signed by itself. */
export function certificate(
  daysLeft = 365,
  namedCurve = 'P-256',
): { readonly cert: string; readonly key: string } {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve })
  const year = 365 * 86_400_000
  const validity = der(TAG.sequence, utcTime(Date.now() - year), utcTime(Date.now() + daysLeft * 86_400_000))
  const name = der(
    TAG.sequence,
    der(TAG.set, der(TAG.sequence, COMMON_NAME, der(TAG.utf8String, Buffer.from('localhost')))),
  )
  const keyInfo = publicKey.export({ format: 'der', type: 'spki' })
  const serial = der(TAG.integer, Buffer.from([1]))
  const version3 = der(TAG.context0, der(TAG.integer, Buffer.from([2])))
  const localhost = der(TAG.sequence, der(TAG.dnsName, Buffer.from('localhost')))
  const altName = der(TAG.sequence, SUBJECT_ALT_NAME, der(TAG.octetString, localhost))
  const extensions = der(TAG.context3, der(TAG.sequence, altName))
  const content = der(
    TAG.sequence,
    version3,
    serial,
    ECDSA_WITH_SHA256,
    name,
    validity,
    name,
    keyInfo,
    extensions,
  )
  const signature = der(TAG.bitString, Buffer.from([0]), sign('sha256', content, privateKey))
  const whole = der(TAG.sequence, content, ECDSA_WITH_SHA256, signature)
  const lines = whole.toString('base64').replace(/.{64}/g, '$&\n')
  return {
    cert: `-----BEGIN CERTIFICATE-----\n${lines}\n-----END CERTIFICATE-----\n`,
    key: privateKey.export({ format: 'pem', type: 'pkcs8' }).toString(),
  }
}

/** Tags of ASN.1. */
const TAG = {
  integer: 0x02,
  bitString: 0x03,
  octetString: 0x04,
  objectId: 0x06,
  utf8String: 0x0c,
  utcTime: 0x17,
  sequence: 0x30,
  set: 0x31,
  /** GeneralName's dNSName. */
  dnsName: 0x82,
  context0: 0xa0,
  context3: 0xa3,
}
/** 1.2.840.10045.4.3.2 */
const ECDSA_WITH_SHA256 = der(TAG.sequence, der(TAG.objectId, Buffer.from('2a8648ce3d040302', 'hex')))
/** 2.5.4.3 */
const COMMON_NAME = der(TAG.objectId, Buffer.from('550403', 'hex'))
/** 2.5.29.17 */
const SUBJECT_ALT_NAME = der(TAG.objectId, Buffer.from('551d11', 'hex'))

function der(tag: number, ...parts: Buffer[]): Buffer {
  const content = Buffer.concat(parts)
  return Buffer.concat([Buffer.from([tag, ...lengthOf(content)]), content])
}

/** In as few bytes as possible: browsers take no other. */
function lengthOf({ length }: Buffer): number[] {
  if (length < 0x80) return [length]
  return length < 0x100 ? [0x81, length] : [0x82, length >> 8, length & 0xff]
}

function utcTime(at: number): Buffer {
  return der(TAG.utcTime, Buffer.from(`${new Date(at).toISOString().slice(2, 19).replace(/[-:T]/g, '')}Z`))
}
