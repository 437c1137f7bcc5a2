// An issuer of oidc-provider: a browser signs in and consents, and gets a code for an ID
// token; a machine gets an access token that is a JWT. It prints its address.
import { generateKeyPairSync } from 'node:crypto'
import { createServer } from 'node:http'
import Provider from 'oidc-provider'

const jwk = (kid) => ({
  ...generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey.export({ format: 'jwk' }),
  kid,
  use: 'sig',
  alg: 'RS256',
})

let callback
const server = createServer((req, res) => callback(req, res))
server.listen(0, '127.0.0.1', () => {
  const issuer = `http://127.0.0.1:${server.address().port}`
  callback = new Provider(issuer, {
    jwks: { keys: [jwk('1')] },
    clients: [
      { client_id: 'weir', client_secret: 'secret', redirect_uris: ['https://client.example/callback'], grant_types: ['authorization_code'], response_types: ['code'] },
      { client_id: 'other', client_secret: 'secret', redirect_uris: ['https://client.example/callback'], grant_types: ['authorization_code'], response_types: ['code'] },
      // On a loopback address a native client may come back to any port (RFC 8252, 7.3).
      { client_id: 'ui', client_secret: 'secret', application_type: 'native', redirect_uris: ['http://127.0.0.1/ui/login/callback'], grant_types: ['authorization_code'], response_types: ['code'] },
      { client_id: 'ci', client_secret: 'secret', redirect_uris: [], grant_types: ['client_credentials'], response_types: [] },
    ],
    claims: { openid: ['sub', 'groups', 'email'] },
    conformIdTokenClaims: false,
    findAccount: (ctx, id) => ({ accountId: id, claims: () => ({ sub: id, groups: ['dev', 'ops'], email: `${id}@corp.example` }) }),
    pkce: { required: () => false },
    cookies: { keys: ['of a test'] },
    features: {
      devInteractions: { enabled: true },
      clientCredentials: { enabled: true },
      resourceIndicators: {
        enabled: true,
        useGrantedResource: () => true,
        defaultResource: () => [],
        getResourceServerInfo: (ctx, resource) => ({
          scope: 'pull',
          audience: new URL(resource).hostname.split('.')[0],
          accessTokenFormat: 'jwt',
          accessTokenTTL: 300,
          jwt: { sign: { alg: 'RS256' } },
        }),
      },
    },
  }).callback()
  console.log(JSON.stringify({ issuers: [issuer] }))
})
