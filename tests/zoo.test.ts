/**
 * Every architecture of the shared folder on every target, against what onnxruntime gave; skipped where ../shared/zoo is absent.
 * ZOO_TARGETS says which targets (`npm run test:zoo`: reference too, and cuda where there is a GPU). Prints a table of the worst errors.
 */
import { afterAll, describe, expect, it } from 'vitest';
import type { TargetName } from '../src/engine/engine.ts';
import { TARGETS } from '../src/targets/all.ts';
import { runModelOn } from './engine-runner.ts';
import { openZooModel, worstError, ZOO_NAMES } from './zoo.ts';

/** The shared folder's rule for agreement, relative to the output's root mean square. */
const TOLERANCE = 1e-3;
const ASKED = (process.env.ZOO_TARGETS ?? 'wasm,x64').split(',') as TargetName[];

interface Gap {
  readonly model: string;
  readonly why: string;
}
/** Architectures that a target refuses; one that starts to pass fails the suite. */
const GAPS: readonly Gap[] = [];

const table = new Map<string, Map<TargetName, number>>();
afterAll(() => {
  const rows = [...table].map(
    ([name, row]) =>
      `${name.padEnd(32)}${ASKED.map((t) => (row.get(t)?.toExponential(1) ?? '').padStart(10)).join('')}`,
  );
  if (rows.length > 0)
    console.log([`${'worst error / rms'.padEnd(32)}${ASKED.map((t) => t.padStart(10)).join('')}`, ...rows].join('\n'));
});

for (const name of ASKED) {
  const target = TARGETS.find((t) => t.name === name);
  const probed = await target?.device.probe();
  describe(`zoo on ${name}${probed?.available ? '' : ` (${probed?.reason ?? 'there is no such target'})`}`, () => {
    it.skipIf(!probed?.available || ZOO_NAMES.length === 0).each(ZOO_NAMES)(
      '%s',
      { timeout: 600_000 },
      async (model) => {
        const gap = GAPS.find((g) => g.model === model);
        const opened = await openZooModel(model);
        try {
          const shapes = Object.fromEntries([...opened.inputs].map(([input, t]) => [input, t.shape]));
          const outputs = runModelOn(name, opened.bytes, opened.inputs, {
            verify: false,
            shapes,
            openExternal: opened.openExternal,
          });
          if (gap) return await expect(outputs, gap.why).rejects.toThrow();
          const error = worstError(opened, await outputs);
          table.set(model, (table.get(model) ?? new Map<TargetName, number>()).set(name, error));
          expect(error).toBeLessThanOrEqual(TOLERANCE);
        } finally {
          opened.dispose();
        }
      },
    );
    if (ZOO_NAMES.length === 0) it.skip('../shared/zoo is absent', () => {});
  });
}
