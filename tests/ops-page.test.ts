/**
 * docs/ops.md says what the operator table says. `npm run docs:ops` writes it.
 */
import { expect, it } from 'vitest';
import { OPS } from '../src/ops/all.ts';
import { TARGETS } from '../src/targets/all.ts';
import { opsPage } from './ops-page.ts';

it('docs/ops.md is up to date', async () => {
  await expect(opsPage(OPS, TARGETS.toReversed())).toMatchFileSnapshot('../docs/ops.md');
});
