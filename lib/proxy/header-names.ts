/**
 * Returns the one form in which names of headers are compared: lower case, with `-` for every character that is no letter or
 * digit. CGI and its kin (WSGI, PHP, Rack, RFC 3875 §4.1.18) take `X_Real_IP` and `X.Real.IP` for `X-Real-IP`.
 */
export function normalForm(name: string): string {
  return HAS_OTHERS.test(name) ? name.toLowerCase().replace(/[^a-z\d]/g, '-') : name
}

/** Matches a name that is not in normal form. Node gives most names in that form. */
const HAS_OTHERS = /[^a-z\d-]/

/**
 * Makes a table of names in their normal form, separated by spaces. A `*` at the beginning or the end stands for any characters,
 * or none. A name that begins with `!` is not in the table, even if another entry matches it.
 */
function nameTable(...lines: readonly string[]): (normalName: string) => boolean {
  const entries = lines.join(' ').split(' ')
  const excepted = entries.filter((entry) => entry.startsWith('!')).map((entry) => entry.slice(1))
  const listed = entries.filter((entry) => !entry.startsWith('!'))
  const exact = new Set(listed.filter((entry) => !entry.includes('*')))
  const patterns = matcher(listed.filter((entry) => entry.includes('*')))
  const exceptions = matcher(excepted)
  return (name) => exact.has(name) || (patterns.test(name) && !exceptions.test(name))
}

function matcher(patterns: readonly string[]): RegExp {
  const sources = patterns.map((pattern) => {
    const text = pattern.replaceAll('*', '')
    return `${pattern.startsWith('*') ? '' : '^'}${text}${pattern.endsWith('*') ? '' : '$'}`
  })
  return sources.length === 0 ? /(?!)/ : new RegExp(sources.join('|'))
}

/** Headers of one connection, which no proxy passes on (RFC 9110 §7.6.1). CGI takes `Proxy` for `HTTP_PROXY`. */
const HOP_BY_HOP = nameTable('connection keep-alive te trailer transfer-encoding upgrade proxy proxy-*')

/** Whether a header is about one connection only, whatever its `Connection` says. */
export function isHopByHop(name: string): boolean {
  return HOP_BY_HOP(normalForm(name))
}

/**
 * The request headers that the API does not get. The browser sends some of them for this site alone. Others only a proxy in front
 * of a server may set: an API that trusts its proxy believes them. The families are those that the named servers document.
 */
const OF_THIS_SITE = nameTable(
  // Who the user is to this site. An API has other names for `Authorization` as well: Cloud Run takes
  // X-Serverless-Authorization before it.
  'authorization *-authorization dpop cookie cookie2 secure-session-*',
  // This site has responded to `Expect`, and the length is the body's.
  'host expect content-length http2-settings',
  // Where the page is from, and the tokens of this site against CSRF.
  'origin sec-* !sec-websocket-* !sec-ch-* !sec-gpc !sec-purpose *csrf* *xsrf* *requestverificationtoken',
  // The proxies in front of a request (RFC 7239), by de facto names too.
  '*forwarded* *forward-for *forwarder-for x-forward-* x-proxy-* x-proxyuser-* wl-proxy-*',
  // The address of the client.
  '*-ip ip *-ips *-ipv4 *-ipv6 *-ipaddress *-ip-address *-addr x-real-* *client-address *source-address',
  '*viewer-address *external-address *peer-address *clientip *socketip *realip *remoteip *userip *remoteaddr',
  'x-client-port x-client-host x-remote-* remote-*',
  // The URL and the method of the request, which some frameworks take from here.
  'x-original-ur* x-original-host x-original-method x-original-path x-original-proto* x-original-scheme',
  'x-original-port x-original-query x-original-request-* x-rewrite-* x-host *host-override disguised-host',
  'was-default-hostname front-end-https x-https x-scheme x-url-scheme x-proto x-script-name script-name',
  'x-path-info path-info x-replaced-path x-ingress-path x-matched-path x-invoke-* x-middleware-*',
  '*method-override *override-method x-http-method x-method',
  // What a server in front is to send in place of a file (Rack::Sendfile), and what it may assemble.
  'x-sendfile* x-accel-* surrogate-*',
  // Who the user is, as proxies say that log users in: oauth2-proxy, Authelia, authentik, Keycloak's, Pomerium, Vouch,
  // Kong, mod_auth_openidc, Shibboleth, SiteMinder, WebSEAL, WebSphere, Kubernetes, Grafana and others.
  'x-auth-* !x-auth-token !x-auth-key x-authenticated* x-authentik-* x-authelia-* x-webauth-*',
  'x-pomerium-* x-vouch-* x-consumer-* x-anonymous-consumer x-credential-* x-oidc-* oidc-* x-saml-*',
  'saml-* mellon-* x-shib-* shib-* eppn ajp-* x-sso-* sm-* smuser x-iv-* iv-* oam-* osso-* -ws*',
  'impersonate-* tailscale-* x-tailscale-* x-okta-* x-ldap-* *-assertion *userinfo x-jwt-payload',
  'x-jwt-claim* auth-user auth-type auth-password logon-user x-logon-user user username userid x-user',
  'x-username x-userid x-user-id x-user-uuid x-user-name x-user-login x-user-email x-user-mail',
  'x-user-role* x-user-group* x-user-permission* x-user-scope* x-user-claim* x-user-info x-user-sub',
  'x-user-subject x-user-dn x-user-identity x-user-principal* x-user-domain* x-current-user* x-login',
  'x-email x-role x-roles x-group x-groups x-subject x-principal* x-identity* x-claims*',
  // The same by ngrok, Red Hat's gateways, Replit, Snowflake, WebObjects, Loki and Mimir, Shibboleth, and mobile networks.
  'ngrok-auth-* x-rh-identity x-replit-user-* sf-context-* x-webobjects-* x-scope-orgid persistent-id',
  'affiliation unscoped-affiliation entitlement x-authuser x-authn-* x-authz-* x-token-sub*',
  'x-token-claim* x-jwt-sub* x-impersonate-* *msisdn x-up-calling-line-id',
  // Who the client is by its certificate (RFC 9440).
  '*client-cert* *clientcert* *client-dn *client-cn *client-subject *client-s-dn *client-i-dn *client-verify x-ssl x-ssl-* ssl-*',
  'x-tls-* tls-* x-mtls-* mtls-* x-cert-* x-spiffe-*',
  // What clouds, edges and meshes say: AWS, Google, Azure, Cloudflare, CloudFront, Akamai, Fastly, Fly, Vercel, Netlify,
  // Envoy, Linkerd.
  'x-amzn-oidc-* x-amzn-tls-* x-amzn-lattice-* x-goog-authenticated-* x-goog-iap-* x-appengine-*',
  'x-ms-client-principal* x-ms-token-* x-ms-proxy x-arr-* x-azure-* x-waws-* x-appservice-* cf-*',
  'cloudfront-* akamai-* x-akamai-* fastly-* fly-* x-vercel-* x-nf-* x-envoy-* l5d-*',
)

/**
 * The response headers that the browser does not get, since an API must not decide these things for this site: its cookies and
 * logins; data that browsers remember of an origin or report about it; the work of servers and caches in front; and the rights of
 * other sites, which are harmless for bearer tokens, but not for the session's cookie.
 */
const NOT_FOR_THE_BROWSER = nameTable(
  // Cookies, and the sessions and logins that browsers know of (Device Bound Session Credentials, FedCM).
  'set-* idp-signin-status login-status secure-session-* sec-* !sec-websocket-* *-session-registration',
  '*-session-challenge dpop-nonce authentication-info authentication-control optional-www-authenticate p3p',
  // What a browser remembers of the whole origin.
  'clear-site-data strict-transport-security public-key-pins* expect-ct expect-staple alt-svc',
  'alternate-protocol accept-ch* critical-ch delegate-ch origin-agent-cluster service-worker-*',
  'use-as-dictionary activate-storage-access',
  // Where the browser reports failures.
  'nel report-to reporting-*',
  // What it fetches, shares and tells of the user.
  'speculation-rules supports-loading-mode observe-browsing-topics attribution-reporting-*',
  'shared-storage-* ad-auction-* x-allow-fledge origin-trial sourcemap x-sourcemap',
  // What pages of other origins may do.
  'access-control-* private-network-access-* timing-allow-origin',
  // What a server in front sends in its place, or does to it: nginx, Apache, PageSpeed, lighttpd, LiteSpeed, Hiawatha, Perlbal,
  // Rack, App Engine, Next.js, Envoy, and what assembles pages (ESI).
  'pagespeed* x-litemage-* x-lsadc-* x-qc-* x-hiawatha-*',
  'x-accel-* x-sendfile* x-lighttpd-* x-litespeed-* lsc-* x-lsc* x-reproxy-* x-cascade x-appengine-*',
  'x-middleware-* x-envoy-* x-arr-* x-azure-* x-esi* x-do-esi',
  // Instructions for a cache in front (RFC 9213, RFC 9875). It comes before `Cache-Control` there.
  '*cdn-cache-control surrogate-* edge-* *cache-tag *cache-tags cdn-tag xkey x-xkey cache-group* cf-*',
  'fastly-* akamai-* x-akamai-* netlify-* x-vercel-*',
)

/** Whether the API gets a header of the request, by its name. */
export const isForApi = remembered((name) => !isHopByHop(name) && !OF_THIS_SITE(normalForm(name)))

/** Whether the browser gets a header of the response, by its name. */
export const isForBrowser = remembered((name) => !isHopByHop(name) && !NOT_FOR_THE_BROWSER(normalForm(name)))

/** How many names are remembered, and how long they are at most: they come from outside. */
const MOST_NAMES = 1_000
const LONGEST_NAME = 64

/** Remembers the decision about a name: the same few names come with every request. */
export function remembered(decide: (name: string) => boolean): (name: string) => boolean {
  const decided = new Map<string, boolean>()
  return (name) => {
    const known = decided.get(name)
    if (known !== undefined) return known
    const decision = decide(name)
    if (decided.size === MOST_NAMES) decided.clear()
    if (name.length <= LONGEST_NAME) decided.set(name, decision)
    return decision
  }
}
