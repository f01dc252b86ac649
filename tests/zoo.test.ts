/**
 * Every architecture of the shared folder on every target, against what onnxruntime gave; skipped where ../shared/zoo is absent.
 * ZOO_TARGETS says which targets (`npm run test:zoo`: reference too, and cuda where there is a GPU), in fp32 and where they have it in fp16. Prints a table of the worst errors.
 */
import { afterAll, describe, expect, it } from 'vitest';
import type { TargetName } from '../src/engine/engine.ts';
import { TARGETS } from '../src/targets/all.ts';
import { runModelOn } from './engine-runner.ts';
import { openZooModel, worstError, ZOO_NAMES } from './zoo.ts';

/** The shared folder's rule for agreement, relative to the output's root mean square; what fp16 is held to. */
const TOLERANCES = { fp32: 1e-3, fp16: 2e-2 } as const;
type Precision = keyof typeof TOLERANCES;
/** Of two boxes with nearly the same score f16 puts another first: its rows are no sample of accuracy. */
const DETECTOR = 'ssdlite320_mobilenet_v3_large';
const ASKED = (process.env.ZOO_TARGETS ?? 'wasm,x64').split(',') as TargetName[];

interface Gap {
  readonly model: string;
  readonly why: string;
}
/** Architectures that a target refuses; one that starts to pass fails the suite. */
const GAPS: readonly Gap[] = [];

/** Errors by model and column: a target in a precision. */
const table = new Map<string, Map<string, number>>();
const columns: string[] = [];
afterAll(() => {
  const cells = (texts: readonly string[]): string => texts.map((text) => text.padStart(16)).join('');
  const rows = [...table].map(
    ([name, row]) => `${name.padEnd(32)}${cells(columns.map((c) => row.get(c)?.toExponential(1) ?? ''))}`,
  );
  if (rows.length > 0) console.log([`${'worst error / rms'.padEnd(32)}${cells(columns)}`, ...rows].join('\n'));
});

function zooOn(name: TargetName, precision: Precision, whyNot: string | undefined): void {
  const column = `${name} ${precision}`;
  columns.push(column);
  describe(`zoo on ${column}${whyNot === undefined ? '' : ` (${whyNot})`}`, () => {
    const names = precision === 'fp16' ? ZOO_NAMES.filter((model) => model !== DETECTOR) : ZOO_NAMES;
    it.skipIf(whyNot !== undefined || ZOO_NAMES.length === 0).each(names)('%s', { timeout: 600_000 }, async (model) => {
      const gap = GAPS.find((g) => g.model === model);
      const opened = await openZooModel(model);
      try {
        const shapes = Object.fromEntries([...opened.inputs].map(([input, t]) => [input, t.shape]));
        const { openExternal } = opened;
        const outputs = runModelOn(name, opened.bytes, opened.inputs, {
          precision,
          shapes,
          openExternal,
          verify: false,
        });
        if (gap) return await expect(outputs, gap.why).rejects.toThrow();
        const error = worstError(opened, await outputs);
        table.set(model, (table.get(model) ?? new Map<string, number>()).set(column, error));
        expect(error).toBeLessThanOrEqual(TOLERANCES[precision]);
      } finally {
        opened.dispose();
      }
    });
    if (ZOO_NAMES.length === 0) it.skip('../shared/zoo is absent', () => {});
  });
}

for (const name of ASKED) {
  const target = TARGETS.find((t) => t.name === name);
  const probed = await target?.device.probe();
  const whyNot = probed?.available ? undefined : (probed?.reason ?? 'there is no such target');
  for (const precision of ['fp32', 'fp16'] as const)
    if (precision === 'fp32' || target?.precisions.has(precision)) zooOn(name, precision, whyNot);
}
