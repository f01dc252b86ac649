/**
 * Decides whether an engine may become machine code, and with which kernels: nothing guards a processor from a wrong address.
 *
 * In comes an engine from anywhere, out the program to emit. Buffers lie inside their spaces, every access of a kernel inside its buffer
 * (proved, or clamped), packed weights are as long as their tactic reads, and tactics are such as the templates offer. What may
 * still be wrong is the answer.
 */
import { ModelError } from '../../core/errors.ts';
import { type Engine, packedElements, type Step, type Tactic } from '../../engine/engine.ts';
import { validateEngine } from '../../engine/validate.ts';
import { clampIndices } from '../../loop/clamp-indices.ts';
import type { Kernel } from '../../loop/ir.ts';
import type { CpuTemplate } from '../cpu/template.ts';
import { CPU_TEMPLATES } from '../cpu/templates.ts';
import type { Program } from '../target.ts';

/** Throws ModelError `engine-parse` where no engine of ours says such a thing, `engine-machine` where another machine's might. */
export function admitEngine(engine: Engine, features: readonly string[]): Program {
  validateEngine(engine);
  const kernels = engine.kernels.map((kernel, i) => {
    const safe = clampIndices(kernel);
    if (!safe)
      throw refused(engine, `kernel ${i} (${kernel.name}) may leave its buffers, or has one of 2 GiB and more`);
    return safe;
  });
  const known = new Set<string>();
  const steps = engine.steps.map((step) => {
    const kernel = kernels[step.kernel];
    const template = checkTactic(engine, kernel, step, features, known);
    checkPacking(engine, kernel, step, template);
    // The code is cut into tiles here, not where the engine was built.
    const tiles = template.tiles(kernel, step.tactic.params);
    return { ...step, tiles, maxThreads: Math.max(1, Math.min(step.maxThreads, tiles)) };
  });
  return { kernels, steps };
}

const refused = (engine: Engine, what: string): ModelError =>
  new ModelError('engine-parse', `engine "${engine.name}" is not valid: ${what}`, { hint: 'build the engine again' });

/** The step's template. `known` holds what was found legal before. */
function checkTactic(
  engine: Engine,
  kernel: Kernel,
  { kernel: index, tactic, buffers }: Step,
  features: readonly string[],
  known: Set<string>,
): CpuTemplate {
  const template = CPU_TEMPLATES.find((t) => t.name === tactic.template);
  const constant = new Set(kernel.buffers.filter((_, b) => buffers[b].space === 'weights').map((b) => b.name));
  const key = `${index} ${tactic.template} ${paramsKey(tactic.params)} ${[...constant].join()}`;
  if (template && known.has(key)) return template;
  const isLegal =
    template &&
    (template.form === 'any' || template.form === kernel.form.kind) &&
    template
      .candidates(kernel, { constant }, features)
      .some((params) => paramsKey(params) === paramsKey(tactic.params));
  if (!isLegal) {
    const what = `${tactic.template} ${paramsKey(tactic.params)}`;
    throw new ModelError(
      'engine-machine',
      `engine "${engine.name}" runs kernel ${kernel.name} by ${what}, which this machine does not have`,
      { hint: 'build the engine on this machine' },
    );
  }
  known.add(key);
  return template;
}

const paramsKey = (params: Tactic['params']): string =>
  Object.keys(params)
    .sort()
    .map((name) => `${name}=${params[name]}`)
    .join();

function checkPacking(engine: Engine, kernel: Kernel, { tactic, buffers }: Step, template: CpuTemplate): void {
  for (const [name, packing] of template.packing?.(kernel, tactic.params) ?? []) {
    const b = kernel.buffers.findIndex((buffer) => buffer.name === name);
    if (buffers[b].bytes < 4 * packedElements(packing))
      throw refused(engine, `weight ${name} of kernel ${kernel.name} is shorter than its packing`);
  }
}
