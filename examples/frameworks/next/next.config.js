export default {
  // Next must not bundle the library: the pages and the server have to use one copy.
  serverExternalPackages: ['session-token-manager'],
}
