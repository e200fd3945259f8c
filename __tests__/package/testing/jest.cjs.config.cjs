module.exports = {
  testMatch: ['**/orders.jest.cjs'],
  moduleFileExtensions: ['js', 'cjs', 'json'],
  // Jest cannot require() an ES module. These packages are ES modules, so Babel makes CommonJS of them; the last two are for the login.
  transformIgnorePatterns: ['/node_modules/(?!(session-token-manager|jose|openid-client|oauth4webapi)/)'],
  transform: { '\\.js$': ['babel-jest', { plugins: ['@babel/plugin-transform-modules-commonjs'] }] },
}
