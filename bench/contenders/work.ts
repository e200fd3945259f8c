/** What the handler of each contender responds with. */
export const RESPONSE = { orders: [{ id: 1, state: 'open' }] }
/** The parameters of a login that needs no browser. */
export const LOGIN = { username: 'user', password: 'password' }
export const SEALING_KEY = 'Rqdrr0tzwNPxPZVrjVlIJKLlCmBCvESj2ycC65fgDJU='

/** The calls whose ratio is what DPoP costs a call to an API. */
export const SIGNATURE = 'one bare ES256 signature'
export const PROOF = 'the DPoP proof of a call'
