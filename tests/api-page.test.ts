/** docs/api.md says what the package declares. `npm run docs:api` writes it. */
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { apiPage } from './api-page.ts';
import { ROOT } from './cli-harness.ts';

const ENTRIES = [
  { module: 'hotrod', file: 'index.d.ts' },
  { module: 'hotrod/runtime', file: 'runtime/runtime.d.ts' },
];

test('docs/api.md is up to date', async () => {
  await expect(apiPage(join(ROOT, 'dist'), ENTRIES)).toMatchFileSnapshot('../docs/api.md');
});

test('every name is there, with its declaration and its comment', () => {
  const page = apiPage(join(ROOT, 'dist'), ENTRIES);
  expect(page).toContain('### build\n\nBuilds an engine from');
  expect(page).toMatch(/### ModelError\n\n(?:.+\n\n)?```ts\nclass ModelError extends Error \{/);
  for (const name of ['BuildOptions', 'graphBuilder', 'load', 'ExecutionContext', 'TimingCache'])
    expect(page).toContain(`### ${name}\n`);
  expect(page).not.toMatch(/```ts\n\s*```/);
});
