/**
 * The viewer's page, bundled: scripts, worker and styles in one HTML file, `dist/viewer/page.html`, with a place for the model. The
 * command line fills that place; nothing is loaded from elsewhere.
 */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { rolldown } from 'rolldown';

const path = (name) => fileURLToPath(new URL(`../${name}`, import.meta.url));

async function bundle(entry) {
  const build = await rolldown({ input: path(`viewer/${entry}`), platform: 'browser', logLevel: 'warn' });
  const { output } = await build.generate({ format: 'esm', minify: true });
  await build.close();
  // A script ends at its closing tag, wherever that stands.
  return output[0].code.replaceAll('</script', '<\\/script');
}

const [script, worker] = [await bundle('main.ts'), await bundle('layout-worker.ts')];
const parts = { STYLE: readFileSync(path('viewer/style.css'), 'utf8'), WORKER: worker, SCRIPT: script };
const page = readFileSync(path('viewer/page.html'), 'utf8').replace(
  /\/\*(STYLE|WORKER|SCRIPT)\*\//g,
  (_, name) => parts[name],
);
mkdirSync(path('dist/viewer'), { recursive: true });
writeFileSync(path('dist/viewer/page.html'), page);
