/**
 * The package's entries in few files: what loads together stands together in `dist/chunks/`, because Node takes about half a
 * millisecond to find and link each module, and there are some hundred behind an entry. What an entry imports later stays apart.
 *
 * Entries keep their paths. The modules that tsc writes stay beside them, with their declarations, for the benches; npm packs only
 * what is bundled. A chunk lies as deep as a module of a room, so that paths from its own URL mean the same.
 */
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync, rmSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { rolldown } from 'rolldown';

const path = (name) => fileURLToPath(new URL(`../${name}`, import.meta.url));
const ENTRIES = ['index', 'runtime/runtime', 'cuda/cuda', 'cli/main'];

const sources = readdirSync(path('src'), { recursive: true })
  .filter((file) => file.endsWith('.ts') && !file.endsWith('.test.ts'))
  .sort();
const digest = createHash('sha256');
// A length in front tells where a text ends.
for (const text of sources.flatMap((file) => [file, readFileSync(path(`src/${file}`))]))
  digest.update(`${text.length} `).update(text);

rmSync(path('dist/chunks'), { recursive: true, force: true });
const bundle = await rolldown({
  input: Object.fromEntries(ENTRIES.map((name) => [name, path(`src/${name}.ts`)])),
  // Packages and Node's own modules are imported as they are.
  external: (id) => !id.startsWith('.') && !id.startsWith(path('')),
  platform: 'neutral',
  transform: { define: { HOTROD_SOURCES: JSON.stringify(digest.digest('hex')) } },
  logLevel: 'warn',
});
await bundle.write({ dir: path('dist'), format: 'esm', chunkFileNames: 'chunks/[name]-[hash].js' });
await bundle.close();
