// Two issuers of oauth2-mock-server, whose keys have the same names. It prints their
// addresses and its own; a POST there makes a token of any header and any claims, signed
// by a key of one of them, or gives one of them another key.
import { createServer } from 'node:http'
import { OAuth2Server } from 'oauth2-mock-server'

const issuers = []
for (let i = 0; i < 2; i++) {
  const server = new OAuth2Server()
  await server.issuer.keys.generate('RS256', { kid: '1' })
  await server.issuer.keys.generate('ES256', { kid: 'ec' })
  await server.start(0, '127.0.0.1')
  issuers.push(server.issuer)
}

// replace makes target have the members of source, and no others.
function replace(target, source) {
  for (const name of Object.keys(target)) delete target[name]
  Object.assign(target, source)
}

async function answer({ issuer, kid, header, claims, generate }) {
  const at = issuers[issuer]
  if (generate) {
    await at.keys.generate('RS256', { kid: generate })
    return ''
  }
  return at.buildToken({
    kid,
    scopesOrTransform: (h, payload) => {
      Object.assign(h, header)
      replace(payload, claims)
    },
  })
}

const control = createServer(async (req, res) => {
  try {
    let body = ''
    for await (const chunk of req) body += chunk
    res.end(await answer(JSON.parse(body)))
  } catch (err) {
    res.writeHead(500).end(String(err))
  }
})
control.listen(0, '127.0.0.1', () => {
  console.log(JSON.stringify({ issuers: issuers.map((i) => i.url), control: `http://127.0.0.1:${control.address().port}/` }))
})
