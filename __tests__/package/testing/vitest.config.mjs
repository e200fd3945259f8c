export default { test: { include: ['orders.vitest.mjs'] } }
