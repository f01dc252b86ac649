/**
 * Holds ARCHITECTURE.md's table of rooms to the code: who may import whom, no cycles, a runtime without the compiler, one public
 * barrel, one room that knows the host. A failure names the file, what it imports, and why that is not its to import.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';

const SRC = join(dirname(fileURLToPath(import.meta.url)), '../src');

interface Room {
  /** A folder of src, or a file in it. */
  readonly room: string;
  /** Folders, files and packages (or `node:…`) that it may import beside itself. */
  readonly may: readonly string[];
  readonly because: string;
}

const PICTURE_PACKAGES = ['sharp', 'jpeg-js', 'fast-png'];
const COMPILER = ['graph', 'ops', 'onnx', 'torch', 'passes', 'lower', 'tune', 'targets/cpu', 'targets/target.ts'];

/** The most specific row that a file lies in counts. */
const ROOMS: readonly Room[] = [
  { room: 'core', may: [], because: 'everything stands on it' },
  { room: 'host', may: ['core', 'node:'], because: 'it is the only room that asks where it runs' },
  {
    room: 'cuda',
    may: ['core', 'host'],
    because: 'it is the NVIDIA driver in TypeScript, of use to whoever has kernels of his own',
  },
  { room: 'graph', may: ['core'], because: 'an IR knows neither operators nor the other IR' },
  { room: 'loop', may: ['core'], because: 'an IR knows neither operators nor the other IR' },
  { room: 'engine', may: ['core', 'loop'], because: 'an engine holds kernels in loop IR and needs no compiler' },
  { room: 'ops', may: ['core', 'graph', 'loop'], because: 'an operator is defined on graphs and lowers to loops' },
  {
    room: 'onnx',
    may: ['core', 'graph', 'ops', 'host', '@bufbuild/protobuf'],
    because: 'it is the only room that knows protobuf and opsets, and only reads and writes graphs',
  },
  {
    room: 'torch',
    may: ['core', 'graph', 'ops', 'host'],
    because:
      'it is the only room that knows pickles, state dicts and exported programs, and only reads them into graphs',
  },
  { room: 'passes', may: ['core', 'graph', 'ops', 'loop'], because: 'graph in, graph out' },
  {
    room: 'precision',
    may: ['core', 'graph', 'ops', 'engine'],
    because: 'graph in, graph out: it chooses dtypes and runs graphs only through what it is given',
  },
  {
    room: 'lower',
    may: ['core', 'graph', 'ops', 'loop', 'engine', 'targets/target.ts'],
    because: 'it turns nodes into kernels and steps for any target',
  },
  {
    room: 'tune',
    may: ['core', 'loop', 'engine', 'targets/target.ts'],
    because: 'it compares tactics and sees no operator',
  },
  {
    room: 'targets',
    may: ['core', 'loop', 'engine', 'host', 'cuda'],
    because: 'a target knows a machine, never an operator',
  },
  {
    room: 'targets/reference',
    may: ['core', 'loop', 'engine', 'host', 'graph', 'ops', 'targets/target.ts'],
    because: 'it runs graphs, and nothing else of the compiler',
  },
  {
    room: 'runtime',
    may: ['core', 'engine', 'host', 'targets/wasm/device.ts', 'targets/x64/device.ts', 'targets/cuda/device.ts'],
    because:
      'it runs engines without the compiler; devices that emit their own code it imports when an engine asks for them',
  },
  {
    room: 'view',
    may: ['core', 'graph', 'ops', 'engine'],
    because: 'it turns a graph and an engine into what a page shows, and runs nothing',
  },
  {
    room: 'vision',
    may: ['core', 'host', ...PICTURE_PACKAGES],
    because: 'it makes tensors of pictures and answers of logits',
  },
];
/** Rooms and files that may import all: the spine and the ways in. */
const OPEN = [
  'build.ts',
  'build-run.ts',
  'build-processor.ts',
  'build-precision.ts',
  'build-open.ts',
  'build-attention.ts',
  'build-options.ts',
  'cli',
  'index.ts',
];

/** Files outside host/ and cli/ that may ask the host, each with its reason. */
const HOST_AWARE: ReadonlyMap<string, string> = new Map([['core/knobs.ts', 'knobs are environment variables']]);

interface Import {
  /** A path below src, or a package's name. */
  readonly to: string;
  readonly typeOnly: boolean;
  /** `import(…)`: loaded when that is reached, if ever. */
  readonly lazy: boolean;
}
interface Source {
  readonly file: string;
  /** The text without comments. */
  readonly code: string;
  readonly imports: readonly Import[];
}

/** Comments out, strings left as they are. */
const withoutComments = (text: string): string =>
  text.replace(
    /('(?:[^'\\\n]|\\.)*'|"(?:[^"\\\n]|\\.)*"|`(?:[^`\\]|\\.)*`)|\/\*[\s\S]*?\*\/|\/\/[^\n]*/g,
    (_, string) => string ?? '',
  );

function importsOf(file: string, code: string): Import[] {
  const found: Import[] = [];
  const add = (specifier: string, typeOnly: boolean, lazy = false): void => {
    const to = specifier.startsWith('.') ? relative(SRC, join(SRC, dirname(file), specifier)) : specifier;
    found.push({ to, typeOnly, lazy });
  };
  // `import { type A }` stays an import at run time (verbatimModuleSyntax), so only `import type` counts as type-only.
  for (const [, type, from] of code.matchAll(/^(?:import|export)\s+(type\s)?[^'";=]*?from\s*'([^']+)'/gm))
    add(from, !!type);
  for (const [, from] of code.matchAll(/^import\s*'([^']+)'/gm)) add(from, false);
  for (const [, type, from] of code.matchAll(/(typeof |readonly |[:<|&]\s*)?\bimport\(\s*'([^']+)'/g))
    add(from, !!type, true);
  return found;
}

const SOURCES: readonly Source[] = readdirSync(SRC, { recursive: true, encoding: 'utf8' })
  .filter((file) => file.endsWith('.ts') && !file.endsWith('.test.ts'))
  .sort()
  .map((file) => {
    const code = withoutComments(readFileSync(join(SRC, file), 'utf8'));
    return { file, code, imports: importsOf(file, code) };
  });

const isIn = (path: string, room: string): boolean => path === room || path.startsWith(`${room}/`);
const matches = (to: string, allowed: string): boolean =>
  allowed.endsWith(':') ? to.startsWith(allowed) : isIn(to, allowed);

test('rooms import only what the table says', () => {
  const wrong: string[] = [];
  for (const { file, imports } of SOURCES) {
    if (OPEN.some((open) => isIn(file, open))) continue;
    const row = ROOMS.filter(({ room }) => isIn(file, room)).sort((a, b) => b.room.length - a.room.length)[0];
    if (!row) wrong.push(`src/${file} is in no room of the table`);
    const may = row && [row.room, ...row.may];
    for (const { to } of imports)
      if (may && !may.some((allowed) => matches(to, allowed)))
        wrong.push(
          `src/${file} imports ${to}, but ${row.room} may import only ${row.may.join(', ') || 'nothing'}: ${row.because}`,
        );
  }
  expect(wrong).toEqual([]);
});

const BY_FILE = new Map(SOURCES.map((source) => [source.file, source]));

test('no file imports itself through others', () => {
  const cycles: string[] = [];
  const finished = new Set<string>();
  const visit = (file: string, path: readonly string[]): void => {
    if (path.includes(file)) {
      cycles.push([...path.slice(path.indexOf(file)), file].join(' -> '));
      return;
    }
    if (finished.has(file)) return;
    for (const { to, typeOnly } of BY_FILE.get(file)?.imports ?? []) if (!typeOnly) visit(to, [...path, file]);
    finished.add(file);
  };
  for (const { file } of SOURCES) visit(file, []);
  expect(cycles).toEqual([]);
});

/** Everything loaded at once when a file is, with how it is reached. */
function loadedBy(start: string): Map<string, string> {
  const reached = new Map([[start, start]]);
  for (const [file, path] of reached)
    for (const { to, typeOnly, lazy } of BY_FILE.get(file)?.imports ?? [])
      if (!typeOnly && !lazy && !reached.has(to)) reached.set(to, `${path} -> ${to}`);
  return reached;
}

test('the runtime entry loads nothing of the compiler, and no package', () => {
  const loaded = loadedBy('runtime/runtime.ts');
  expect([...loaded.keys()]).toContain('targets/wasm/device.ts');
  const wrong = [...loaded].filter(([to]) => COMPILER.some((room) => isIn(to, room)) || !BY_FILE.has(to));
  expect(wrong.map(([, path]) => path)).toEqual([]);
});

test('device x64 loads nothing of the compiler until it has something to compile', () => {
  const loaded = loadedBy('targets/x64/device.ts');
  expect([...loaded.keys()]).toContain('targets/x64/kept-code.ts');
  const wrong = [...loaded].filter(([to]) => [...COMPILER, 'targets/x64/program.ts'].some((room) => isIn(to, room)));
  expect(wrong.map(([, path]) => path)).toEqual([]);
});

/** Files that package.json exports. */
const ENTRIES = ['index.ts', 'runtime/runtime.ts', 'cuda/cuda.ts'];

test('only the entries re-export, and nothing has a default export', () => {
  const barrels = SOURCES.filter(({ file }) => !ENTRIES.includes(file))
    .filter(({ code }) => /^export\s+(type\s+)?(\{[^}]*\}|\*[^;]*?)\s*from/m.test(code))
    .map(({ file }) => `src/${file} re-exports: readers should see where a name is made`);
  const defaults = SOURCES.filter(({ code }) => /^export\s+default\b/m.test(code)).map(
    ({ file }) => `src/${file} has a default export: a name means one thing everywhere`,
  );
  expect([...barrels, ...defaults]).toEqual([]);
});

test('only host/ and cli/ ask where they run', () => {
  const wrong = SOURCES.filter(({ file }) => !isIn(file, 'host') && !isIn(file, 'cli') && !HOST_AWARE.has(file))
    .filter(({ code }) => /(?<![\w.])process\.|globalThis\.process|['"`]node:/.test(code))
    .map(({ file }) => `src/${file} names process or a node: module: ask host/, so that browsers can run the rest`);
  expect(wrong).toEqual([]);
});

test('the table names rooms that exist', () => {
  for (const { room } of ROOMS)
    expect(
      SOURCES.some(({ file }) => isIn(file, room)),
      room,
    ).toBe(true);
  for (const file of [...OPEN.filter((o) => o.endsWith('.ts')), ...HOST_AWARE.keys()])
    expect(BY_FILE.has(file), file).toBe(true);
});

test('imports are found in every form', () => {
  const code = withoutComments(
    [
      "import type { A } from './a.ts'; // import x from './no.ts'",
      "import {\n  b,\n  type C,\n} from '../core/b.ts';",
      "import './effect.ts';",
      "export * from './d.ts';",
      "/* import './no.ts' */ const e = await import('pkg');",
      "let f: import('./f.ts').F;",
    ].join('\n'),
  );
  expect(importsOf('loop/x.ts', code)).toEqual([
    { to: 'loop/a.ts', typeOnly: true, lazy: false },
    { to: 'core/b.ts', typeOnly: false, lazy: false },
    { to: 'loop/d.ts', typeOnly: false, lazy: false },
    { to: 'loop/effect.ts', typeOnly: false, lazy: false },
    { to: 'pkg', typeOnly: false, lazy: true },
    { to: 'loop/f.ts', typeOnly: true, lazy: true },
  ]);
});
