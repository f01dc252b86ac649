import { describe, expect, it } from 'vitest';
import type { Kernel } from '../loop/ir.ts';
import type { Target, Template } from '../targets/target.ts';
import { candidates, chooseTactics, type TuneOptions } from './choose.ts';
import { TimingCache } from './timing-cache.ts';

const KERNEL: Kernel = { name: 'k', form: { kind: 'map' }, buffers: [], axes: [], body: [] };
const template = (
  name: string,
  rows: readonly (readonly [Record<string, number>, number])[],
  form: Template['form'] = 'any',
): Template => ({
  name,
  form,
  candidates: () => rows.map(([params]) => params),
  predictNs: (_, params) => rows.find(([p]) => p === params)?.[1] ?? Number.NaN,
  tiles: () => 1,
});
const target = (...templates: Template[]): Target => ({
  name: 'wasm',
  device: { target: 'wasm', probe: () => Promise.reject(), open: () => Promise.reject() },
  precisions: new Set(['fp32']),
  computes: new Set(),
  templates,
  features: () => [],
});
const options = (): TuneOptions => ({ effort: 0, machine: 'm', cache: new TimingCache(), checkpoint: async () => {} });
const task = (constant: string[] = []) => ({ kernel: KERNEL, facts: { constant: new Set(constant) } });

describe('choosing tactics', () => {
  it('takes the least predicted time over all templates that fit the form', async () => {
    const t = target(
      template('generated', [[{}, 9]]),
      template('fast', [
        [{ width: 8 }, 5],
        [{ width: 4 }, 3],
      ]),
      template('other', [[{}, 1]], 'attend'),
    );
    expect(await chooseTactics([task()], t, options())).toEqual([
      { template: 'fast', params: { width: 4 }, predictedNs: 3 },
    ]);
  });

  it('breaks ties by name and parameters, whatever the order of the tables', () => {
    const rows = [
      template('b', [[{}, 1]]),
      template('a', [
        [{ n: 2 }, 1],
        [{ n: 1 }, 1],
      ]),
    ];
    const forward = candidates(task(), target(...rows), []);
    expect(forward).toEqual(candidates(task(), target(...rows.toReversed()), []));
    expect(forward.map((c) => [c.template, c.params.n])).toEqual([
      ['a', 1],
      ['a', 2],
      ['b', undefined],
    ]);
  });

  it('decides equal tasks once, and anew where other buffers are constant', async () => {
    let asked = 0;
    const counting: Template = { ...template('t', [[{}, 1]]), candidates: () => [{ asked: ++asked }] };
    const [a, b, c] = await chooseTactics([task(), task(), task(['in1'])], target(counting), options());
    expect(a).toBe(b);
    expect(c).not.toBe(a);
    expect(asked).toBe(2);
  });

  it('is a Bug where nothing fits', async () => {
    await expect(chooseTactics([task()], target(), options())).rejects.toThrow(/no template/);
  });
});
