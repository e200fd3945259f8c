/** Names that servers take an identity, an address, a path or a method from, as their makers spell them. */
export const NAMES_FOR_A_SERVER: Readonly<Record<string, readonly string[]>> = {
  'the proxies in front': words(`
    Forwarded Forwarded-For X-Forwarded X-Forwarded-For X-Forwarded-Host X-Forwarded-Port
    X-Forwarded-Proto X-Forwarded-Protocol X-Forwarded-Scheme X-Forwarded-Ssl X-Forwarded-By
    X-Forwarded-Prefix X-Forwarded-Path X-Forwarded-Uri X-Forwarded-Server X-Forwarded-Method
    X-Forwarded-User X-Forwarded-Email X-Forwarded-Groups X-Forwarded-Preferred-Username
    X-Forwarded-Access-Token X-Forwarded-Client-Cert X-Forwarded-Tls-Client-Cert
    X-Forwarded-Anything X-Original-Forwarded-For X-Vercel-Forwarded-For X-MS-Forwarded-Client-IP
    X-Forward-For Forward-For Forwarder-For X-Forward-Host X-Proxy-User X-ProxyUser-Ip
    WL-Proxy-Client-Cert WL-Proxy-SSL Proxy Proxy-Remote-User Proxy-Client-IP X-ProxyUser-Name
  `),
  'an address': words(`
    X-Real-IP X-Real-Port X-Client-IP Client-IP True-Client-IP X-Cluster-Client-IP X-IP IP
    X-Originating-IP X-Remote-IP X-Remote-Addr Remote-Addr Remote-Host X-Client-Addr X-ClientIP
    X-RealIP X-RemoteIP X-UserIP X-Azure-SocketIP X-SocketIP X-Sucuri-ClientIP CF-Connecting-IP
    CF-Connecting-IPv6 Cf-Pseudo-IPv4 X-Client-IPv4 X-Client-IPv6 X-Client-IPs X-Client-IPAddress
    X-Client-IP-Address X-Remote-Address X-Client-Address X-Source-Address X-Viewer-Address
    X-External-Address X-Real-Address X-Peer-Address Fastly-Client-IP Fly-Client-IP DO-Connecting-IP
    EO-Connecting-IP Incap-Client-IP Ali-Cdn-Real-Ip CDN-Src-IP X-NF-Client-Connection-IP
    X-RemoteAddr X-AppEngine-User-IP X-Google-Real-IP X-Original-Remote-Addr X-Client-Port X-Client-Host
  `),
  'a path, a host or a scheme': words(`
    X-Original-URL X-Original-URI X-Original-Host X-Original-Path X-Original-Proto X-Rewrite-URL
    X-Original-Scheme X-Original-Port X-Original-Query X-Original-Request-Uri X-Original-Method
    X-Rewrite-Path X-Host X-HTTP-Host-Override X-Host-Override Disguised-Host X-Scheme X-Proto
    WAS-Default-Hostname Front-End-Https X-Https X-Url-Scheme X-Script-Name Script-Name X-Path-Info
    Path-Info X-Replaced-Path X-Ingress-Path X-Matched-Path X-Invoke-Path X-Middleware-Subrequest
    X-Middleware-Rewrite
  `),
  'a method': words(`
    X-HTTP-Method-Override X-Method-Override X-HTTP-Method X-Method X-Override-Method
  `),
  'what to send for a file': words(`
    X-Sendfile-Type X-Accel-Mapping X-Accel-Redirect Surrogate-Capability
  `),
  'a user': words(`
    Remote-User Remote-Groups Remote-Name Remote-Email X-Remote-User X-Remote-Group
    X-Remote-Extra-Scopes REMOTE_USER X-Auth-Request-User X-Auth-Request-Email X-Auth-Username
    X-Auth-Request-Access-Token X-Auth-Subject X-Auth-Roles X-Authenticated-Userid
    X-Authenticated-User X-Authentik-Username X-Authentik-Jwt X-Authelia-User X-WebAuth-User
    X-Pomerium-Jwt-Assertion X-Pomerium-Claim-Email X-Vouch-User X-Vouch-Idp-Claims-Groups
    X-Consumer-ID X-Consumer-Username X-Anonymous-Consumer X-Credential-Identifier X-Userinfo
    X-OIDC-Sub OIDC_CLAIM_sub OIDC_access_token X-SAML-NameID SAML-Attributes MELLON_NAME_ID
    Shib-Identity-Provider X-Shib-Eppn eppn AJP_eppn SM_USER SM-ServerSessionID SMUSER iv-user
    iv-groups X-IV-User OAM_REMOTE_USER Osso-User-Dn $WSRU $WSRA Impersonate-User Impersonate-Group
    Tailscale-User-Login X-Tailscale-User Teleport-Jwt-Assertion X-JWT-Assertion X-JWT-Payload
    X-JWT-Claim-Sub X-Okta-User X-LDAP-User X-SSO-User X-Apigateway-Api-Userinfo
    X-Endpoint-Api-UserInfo AUTH_USER AUTH_TYPE AUTH_PASSWORD LOGON_USER X-Logon-User User Username
    UserId X-User X-Username X-UserId X-User-Id X-User-Uuid X-User-Name X-User-Login X-User-Email
    X-User-Mail X-User-Roles X-User-Groups X-User-Permissions X-User-Scopes X-User-Claims
    X-User-Info X-User-Sub X-User-Subject X-User-Dn X-User-Identity X-User-Principal-Name
    X-User-Domain-Id X-Current-User X-Login X-Email X-Role X-Roles X-Group X-Groups X-Subject
    Ngrok-Auth-User-Email X-RH-Identity X-Replit-User-Id Sf-Context-Current-User
    X-WebObjects-Remote-User X-Scope-OrgID persistent-id affiliation unscoped-affiliation entitlement
    X-AuthUser X-Authn-User X-Authz-Roles X-Token-Subject X-Token-Claim-Email X-JWT-Sub
    X-Impersonate-User MSISDN X-MSISDN X-Nokia-MSISDN X-Up-Calling-Line-Id
    X-Principal X-Identity X-Claims X-Serverless-Authorization X-Authorization Proxy-Authorization
  `),
  'a certificate': words(`
    Client-Cert Client-Cert-Chain X-Client-Cert X-ClientCert X-Client-Dn X-Client-S-Dn X-Client-I-Dn
    X-Client-Verify SSL-Client-Cert SSL_CLIENT_S_DN SSL-Protocol X-SSL-Client-Verify X-SSL-Issuer
    X-SSL X-Client-CN X-Client-Subject X-TLS-Client-Subject TLS-Client-Fingerprint X-MTLS-Subject MTLS-Subject X-Cert-Subject
    X-Spiffe-Id
  `),
  'a cloud or a mesh': words(`
    X-Amzn-Oidc-Data X-Amzn-Oidc-Identity X-Amzn-Oidc-Accesstoken X-Amzn-Mtls-Clientcert-Subject
    X-Amzn-Tls-Version X-Amzn-Lattice-Identity X-Goog-Authenticated-User-Email
    X-Goog-Authenticated-User-Id X-Goog-Iap-Jwt-Assertion X-Goog-IAP-Generated-Response
    X-AppEngine-Inbound-Appid X-AppEngine-Cron X-MS-CLIENT-PRINCIPAL X-MS-CLIENT-PRINCIPAL-ID
    X-MS-TOKEN-AAD-ACCESS-TOKEN X-MS-Proxy X-ARR-ClientCert X-ARR-SSL X-ARR-LOG-ID X-Azure-FDID
    X-WAWS-Unencoded-URL X-AppService-Proto CF-Visitor Cf-Access-Jwt-Assertion
    Cf-Access-Authenticated-User-Email CF-IPCountry CloudFront-Viewer-Address
    CloudFront-Is-Desktop-Viewer Akamai-Origin-Hop X-Akamai-Edgescape Fastly-SSL Fly-Forwarded-Proto
    Fly-Region X-Vercel-Id X-NF-Account-Id X-Envoy-External-Address X-Envoy-Original-Path
    l5d-client-id l5d-dst-override
  `),
  'this site alone': words(`
    Authorization Cookie Cookie2 Host Origin Expect Content-Length HTTP2-Settings Sec-Fetch-Site
    Sec-Fetch-Mode Sec-Session-Id Sec-Secure-Session-Id Secure-Session-Response CSRF-Token X-CSRF
    X-CSRF-Token X-XSRF-Token X-CSRFToken XSRF-TOKEN X-XSRF RequestVerificationToken
    __RequestVerificationToken
  `),
  'one connection': words(`
    Connection Keep-Alive TE Trailer Transfer-Encoding Upgrade Proxy-Connection Proxy-Anything
  `),
}

/** Names that pass to the API: what clients of APIs say. */
export const NAMES_OF_A_CLIENT: readonly string[] = words(`
  Accept Accept-Encoding Accept-Language Access-Control-Request-Method Baggage Cache-Control
  Content-Disposition Content-Encoding Content-Language Content-MD5 Content-Type DNT Digest
  Idempotency-Key If-Match If-Modified-Since If-None-Match If-Range Last-Event-ID Max-Forwards
  OData-Version Pragma Prefer Priority Range Referer Save-Data Sec-CH-UA Sec-GPC Sec-WebSocket-Key
  Sec-WebSocket-Protocol Signature Signature-Input traceparent tracestate User-Agent Via X-Amz-Date
  X-Amz-Security-Token X-Amzn-Trace-Id X-Api-Key X-Api-Version X-Auth-Token X-Auth-Key Sec-Purpose
  X-B3-TraceId X-Client-Id X-Client-Version X-Cloud-Trace-Context X-Correlation-ID X-Forecast
  X-GitHub-Api-Version X-Goog-Api-Key X-Goog-User-Project X-Grpc-Web X-Membership
  X-MS-Client-Request-Id X-MS-Version X-Mine X-Organization-Id X-Request-ID X-Requested-With
  X-Shipping-Address X-Tenant-Id X-Timezone X-User-Agent X-User-Locale X-Zip api_key
  GraphQL-Preflight
`)

/** Names by which an API would speak to the servers and caches in front of this site, or to the browser for it. */
export const NAMES_OF_A_SITE: Readonly<Record<string, readonly string[]>> = {
  'cookies, sessions and logins': words(`
    Set-Cookie Set-Cookie2 Set-Login IdP-SignIn-Status Login-Status Authentication-Info Authentication-Control
    Optional-WWW-Authenticate Secure-Session-Registration Secure-Session-Challenge Secure-Session-Id
    Sec-Session-Registration Sec-Session-Challenge X-Session-Registration X-Session-Challenge P3P
    Sec-Private-State-Token
  `),
  'what a browser remembers': words(`
    Clear-Site-Data Strict-Transport-Security Public-Key-Pins Public-Key-Pins-Report-Only Expect-CT
    Expect-Staple Alt-Svc Alternate-Protocol Accept-CH Accept-CH-Lifetime Critical-CH Delegate-CH
    Origin-Agent-Cluster Service-Worker-Allowed Use-As-Dictionary Activate-Storage-Access
  `),
  reports: words(`
    NEL Report-To Reporting-Endpoints
  `),
  'features of a browser': words(`
    Speculation-Rules Supports-Loading-Mode Observe-Browsing-Topics
    Attribution-Reporting-Register-Source Attribution-Reporting-Register-Trigger
    Shared-Storage-Write Ad-Auction-Signals X-Allow-FLEDGE Origin-Trial SourceMap X-SourceMap
  `),
  'other origins': words(`
    Access-Control-Allow-Origin Access-Control-Allow-Credentials Access-Control-Allow-Headers
    Access-Control-Allow-Methods Access-Control-Expose-Headers Access-Control-Max-Age
    Timing-Allow-Origin Access-Control-Allow-Private-Network Private-Network-Access-Name
  `),
  'servers in front': words(`
    PageSpeed PageSpeedFilters X-LiteMage-Purge X-LSADC-Backend X-QC-Cache-Control
    X-Hiawatha-Cache X-Hiawatha-Cache-Remove
    X-Accel-Redirect X-Accel-Expires X-Accel-Limit-Rate X-Accel-Charset X-Accel-Buffering X-Sendfile
    X-Sendfile2 X-Sendfile-Temporary X-LIGHTTPD-send-file X-LIGHTTPD-send-tempfile
    X-LiteSpeed-Location X-LiteSpeed-Cache-Control X-LiteSpeed-Purge X-LiteSpeed-Tag LSC-Cookie
    X-LSCACHE X-Reproxy-URL X-Reproxy-File X-Reproxy-Cache-For X-Reproxy-Expected-Size X-Cascade
    X-AppEngine-BlobKey X-Middleware-Rewrite X-Middleware-Set-Cookie
    X-Envoy-Immediate-Health-Check-Fail X-ARR-SSL X-Azure-Ref X-ESI X-Do-Esi
  `),
  'caches in front': words(`
    CDN-Cache-Control Cloudflare-CDN-Cache-Control Vercel-CDN-Cache-Control
    Netlify-CDN-Cache-Control Surrogate-Control Surrogate-Key Edge-Control Edge-Cache-Tag Cache-Tag
    Cache-Tags X-Cache-Tags CDN-Tag xkey X-Xkey Cache-Groups Cache-Group-Invalidation CF-Edge-Cache
    Fastly-Restarts Akamai-Cache-Status X-Akamai-Transformed Netlify-Vary Vercel-Cache-Tag
    X-Vercel-Cache
  `),
  'one connection': words(`
    Connection Keep-Alive TE Trailer Transfer-Encoding Upgrade Proxy-Authenticate Proxy-Status
  `),
}

/** Names that pass to the browser: what clients of APIs read. */
export const NAMES_OF_AN_API: readonly string[] = words(`
  Accept-Patch Accept-Ranges Age Allow Cache-Control Cache-Status Content-Disposition
  Content-Encoding Content-Language Content-Length Content-Location Content-Range Content-Type
  Content-Security-Policy Cross-Origin-Resource-Policy Date Deprecation ETag Expires HX-Redirect
  Last-Modified Link Location OData-Version Permissions-Policy Preference-Applied RateLimit
  RateLimit-Policy RateLimit-Remaining Referrer-Policy Retry-After Sec-WebSocket-Accept Server
  Sec-WebSocket-Protocol Server-Timing Sunset Vary Via Warning X-Amzn-RequestId X-Cache
  X-Content-Type-Options X-Correlation-ID X-Frame-Options X-GitHub-Request-Id X-OAuth-Scopes
  X-Powered-By X-RateLimit-Limit X-RateLimit-Reset X-Request-ID X-Total-Count api_version
`)

/** How else a name may be written that servers take for the same. */
export function spellingsOf(name: string): string[] {
  const lower = name.toLowerCase()
  return [
    lower,
    lower.replaceAll('-', '_'),
    lower.replaceAll('-', '.'),
    lower.replace('-', '_'),
    lower.replaceAll('-', '~'),
  ]
}

function words(text: string): string[] {
  return text.trim().split(/\s+/)
}
