// Makes a page in docs/api for each entry point of the package.
import { readFileSync } from 'node:fs'
import { basename } from 'node:path'

const root = new URL('../../', import.meta.url)
const { exports } = JSON.parse(readFileSync(new URL('package.json', root), 'utf8'))
const entryPoints = Object.values(exports)
  .filter((entry) => typeof entry === 'object')
  .map(({ default: file }) => `../../lib/${basename(file, '.js')}.ts`)

/** @type {import('typedoc').TypeDocOptions & import('typedoc-plugin-markdown').PluginOptions} */
export default {
  entryPoints,
  tsconfig: '../../tsconfig.json',
  out: '../../docs/api',
  plugin: ['typedoc-plugin-markdown', 'typedoc-plugin-missing-exports'],
  // A type that a signature names is described on the same page, exported or not.
  placeInternalsInOwningModule: true,
  outputFileStrategy: 'modules',
  readme: 'none',
  disableSources: true,
  excludeExternals: true,
  excludePrivate: true,
  hideBreadcrumbs: true,
  hidePageHeader: true,
  pageTitleTemplates: {
    index: 'API reference',
    module: ({ name }) => (name === 'index' ? 'session-token-manager' : `session-token-manager/${name}`),
  },
  parametersFormat: 'table',
  interfacePropertiesFormat: 'table',
  typeAliasPropertiesFormat: 'table',
  classPropertiesFormat: 'table',
  typeDeclarationFormat: 'table',
  externalSymbolLinkMappings: {
    typescript: {
      'Error.cause': 'https://developer.mozilla.org/docs/Web/JavaScript/Reference/Global_Objects/Error/cause',
    },
  },
  // A link to nothing ends the build.
  treatValidationWarningsAsErrors: true,
}
