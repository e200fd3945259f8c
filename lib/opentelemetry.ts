export { type InstrumentOptions, instrument } from './opentelemetry/instrument.js'
