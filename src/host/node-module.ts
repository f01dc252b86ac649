/**
 * Node's own modules, asked for at run time: bundlers for browsers see no import, and a browser gets undefined.
 */

interface NodeProcess {
  readonly versions?: { readonly node?: string };
  readonly getBuiltinModule?: (name: string) => unknown;
}

/** The module `node:…`, typed by the caller as the part of it that is used; undefined where the host is not Node or alike. */
export function nodeModule<T>(name: `node:${string}`): T | undefined {
  const { process } = globalThis as { process?: NodeProcess };
  if (!process?.versions?.node) return undefined;
  return process.getBuiltinModule?.(name) as T | undefined;
}
