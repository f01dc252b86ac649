/** The viewer's page as it was built, with a place for the model. */
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { ModelError } from '../core/errors.ts';

/** Throws ModelError `file-missing` where the package was not built. */
export function readTemplate(): string {
  const file = fileURLToPath(new URL('../viewer/page.html', import.meta.url));
  try {
    return readFileSync(file, 'utf8');
  } catch (cause) {
    throw new ModelError('file-missing', `the viewer's page is not built: ${file}`, { hint: 'npm run build', cause });
  }
}
