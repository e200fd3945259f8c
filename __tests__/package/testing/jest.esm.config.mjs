export default {
  testMatch: ['**/orders.jest.mjs'],
  moduleFileExtensions: ['js', 'mjs', 'json'],
  transform: {},
}
