import { readFileSync } from 'node:fs'
import { type Module, parseSync } from '@swc/core'

/** A node of a syntax tree, of whatever kind. */
export interface SyntaxNode {
  readonly type: string
  readonly [property: string]: unknown
}

/** The syntax tree of a TypeScript file. */
export function syntaxOf(file: string): Module {
  return parseSync(readFileSync(file, 'utf8'), { syntax: 'typescript', target: 'es2023' })
}

/** Every node of a syntax tree, the root first. */
export function* nodesOf(tree: unknown): Generator<SyntaxNode> {
  if (typeof tree !== 'object' || tree === null) return
  if ('type' in tree && typeof tree.type === 'string') yield tree as SyntaxNode
  for (const child of Object.values(tree)) yield* nodesOf(child)
}
