module.exports = {
  testMatch: ['**/orders.jest.cjs'],
  moduleFileExtensions: ['js', 'cjs', 'json'],
  // Jest cannot require() an ES module. These two packages are ES modules, so Babel makes CommonJS of them.
  transformIgnorePatterns: ['/node_modules/(?!(session-token-manager|jose)/)'],
  transform: { '\\.js$': ['babel-jest', { plugins: ['@babel/plugin-transform-modules-commonjs'] }] },
}
