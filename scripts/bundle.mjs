/**
 * The package's entries in few files: what loads together stands together in `dist/chunks/`, because Node takes about half a
 * millisecond to find and link each module, and there are some hundred behind an entry. What an entry imports later stays apart.
 *
 * Entries keep their paths. The modules that tsc writes stay beside them, with their declarations, for the benches; npm packs only
 * what is bundled. A chunk lies as deep as a module of a room, so that paths from its own URL mean the same.
 */
import { rmSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { rolldown } from 'rolldown';

const path = (name) => fileURLToPath(new URL(`../${name}`, import.meta.url));
const ENTRIES = ['index', 'runtime/runtime', 'cuda/cuda', 'cli/main'];

rmSync(path('dist/chunks'), { recursive: true, force: true });
const bundle = await rolldown({
  input: Object.fromEntries(ENTRIES.map((name) => [name, path(`src/${name}.ts`)])),
  // Packages and Node's own modules are imported as they are.
  external: (id) => !id.startsWith('.') && !id.startsWith(path('')),
  platform: 'neutral',
  logLevel: 'warn',
});
await bundle.write({ dir: path('dist'), format: 'esm', chunkFileNames: 'chunks/[name]-[hash].js' });
await bundle.close();
