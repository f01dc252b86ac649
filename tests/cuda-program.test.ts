/**
 * Engines for target cuda where there is no GPU: built for an architecture by name, the same bytes each time, and emitted for any chip.
 */
import { describe, expect, it } from 'vitest';
import { build } from '../src/build.ts';
import { graphBuilder } from '../src/graph/build.ts';
import { OPS } from '../src/ops/all.ts';
import { chooseTarget } from '../src/targets/all.ts';
import { emitProgram } from '../src/targets/cuda/program.ts';
import { CHIPS } from './ptx/run-kernel.ts';
import { randomTensor } from './random.ts';

function network() {
  const b = graphBuilder('net', OPS);
  const x = b.input('x', 'f32', [1, 8, 9, 9]);
  const weight = (shape: readonly number[], seed: number) => b.constant(randomTensor('f32', [...shape], seed));
  const conv = (from: string, shape: readonly number[], seed: number, attrs = {}): string =>
    b.node('Conv', [from, weight(shape, seed)], { attrs: { kernel_shape: shape.slice(2), ...attrs } })[0];
  const wide = conv(x, [16, 8, 1, 1], 1);
  const channels = conv(wide, [16, 1, 3, 3], 2, { group: 16 });
  const twice = conv(b.node('Relu', [channels])[0], [16, 16, 1, 1], 3);
  const again = conv(b.node('Relu', [twice])[0], [16, 16, 1, 1], 4);
  b.output(b.node('GlobalAveragePool', [b.node('Relu', [again])[0]])[0]);
  return b.finish();
}

describe('engines for a GPU that is not here', () => {
  it('are the same each time, with one entry for equal steps', async () => {
    const [a, b] = await Promise.all(
      [0, 1].map(async () => (await build(network(), { target: 'cuda', gpuArch: 'sm_90' })).engine),
    );
    expect(a.machine).toContain('sm_90a');
    const program = emitProgram(a, CHIPS[2]);
    expect(emitProgram(b, CHIPS[2])).toEqual(program);
    expect(program.launches.flatMap(({ step, beside = [] }) => [step, ...beside])).toEqual(a.steps.map((_, i) => i));
    expect(new Set(program.launches.map((l) => l.entry.replace(/_p$/, ''))).size).toBeLessThan(program.launches.length);
    for (const { module, entry } of program.launches) expect(program.modules[module]).toContain(`.entry ${entry}(`);
  });

  it('have each entry once, also where a file holds a kernel twice', async () => {
    const { engine } = await build(network(), { target: 'cuda', gpuArch: 'sm_80' });
    const last = engine.steps[engine.steps.length - 1];
    const twice = {
      ...engine,
      kernels: [...engine.kernels, engine.kernels[last.kernel]],
      steps: [...engine.steps, { ...last, kernel: engine.kernels.length }],
    };
    const { modules, launches } = emitProgram(twice, CHIPS[1]);
    expect(launches).toHaveLength(engine.steps.length + 1);
    const entries = modules.join('').match(/\.entry \w+/g) ?? [];
    expect(new Set(entries).size).toBe(entries.length);
  });

  it('read by ordinary loads wherever the launch before may still run', async () => {
    const { engine } = await build(network(), { target: 'cuda', gpuArch: 'sm_90' });
    const { modules, launches } = emitProgram(engine, CHIPS[2]);
    const texts = launches.map(({ module, entry }) => {
      const text = modules[module].slice(modules[module].indexOf(`.entry ${entry}(`));
      return text.slice(0, text.indexOf('\n}\n'));
    });
    const letsGo = texts.map((text) => text.includes('griddepcontrol.launch_dependents;'));
    expect(letsGo.filter(Boolean).length).toBeGreaterThan(1);
    // The last one lets nobody go, and is let go.
    expect(letsGo.slice(-2)).toEqual([true, false]);
    for (const [i, text] of texts.entries())
      if (letsGo[i] || letsGo[i - 1]) expect(text, launches[i].entry).not.toContain('.nc.');
  });

  it('are emitted again for the chip that opens them', async () => {
    const { engine } = await build(network(), { target: 'cuda', gpuArch: 'sm_75' });
    for (const chip of CHIPS) {
      const { modules, programmatic } = emitProgram(engine, chip);
      for (const text of modules) expect(text).toContain(`.target sm_${chip.computeCapability}`);
      expect(programmatic).toBe(chip.computeCapability >= 90);
      expect(modules.some((text) => text.includes('griddepcontrol'))).toBe(programmatic);
    }
  });

  it('need an architecture that exists, and a target that has some', async () => {
    await expect(chooseTarget('cuda', 'sm_61')).rejects.toThrow('there is no architecture sm_61');
    await expect(chooseTarget('wasm', 'sm_90')).rejects.toThrow('target wasm takes no architecture');
  });
});
