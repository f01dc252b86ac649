/**
 * The conformance suite for any runner of models: each ONNX backend test must give its expected outputs.
 *
 * What a runner cannot do is a row of the gaps with the reason. A gap that closes fails the test, so the list stays true.
 */
import { afterAll, describe, expect, it } from 'vitest';
import { isFloat } from '../src/core/dtype.ts';
import { printType, type Tensor, toNumbers } from '../src/core/tensor.ts';
import type { ConformanceCase, DataSet } from './conformance-cases.ts';
import { specialise } from './conformance-specialise.ts';

export interface ConformanceGap {
  /** Names of tests, without `test_`. */
  readonly tests: RegExp;
  /** `refused`: it does not build or run. `differs`: it runs and gives something else. */
  readonly how: 'refused' | 'differs';
  readonly why: string;
}

export interface ConformanceRunner {
  readonly name: string;
  /** Outputs in the model's order. `constants` are fixed at build time, `inputs` given at run time. */
  run(
    model: Uint8Array,
    constants: Readonly<Record<string, Tensor>>,
    inputs: ReadonlyMap<string, Tensor>,
  ): Promise<readonly Tensor[]>;
  readonly gaps: readonly ConformanceGap[];
}

/** The tolerances of ONNX's own backend test runner. */
const RELATIVE = 1e-3;
const ABSOLUTE = 1e-7;

/** One test a case that is not outside. Prints how many passed. */
export function conformanceSuite(runner: ConformanceRunner, cases: readonly ConformanceCase[]): void {
  describe(runner.name, () => {
    const passed = new Map<string, number>();
    const eligible = cases.filter((c) => c.outside === undefined);
    for (const c of eligible) {
      it(`${c.group}/${c.name}`, async () => {
        const gap = runner.gaps.find((g) => g.tests.test(c.name));
        const found = await attempt(runner, c);
        if (gap) {
          expect(found.how, `listed as a gap: ${gap.why}`).toBe(gap.how);
          return;
        }
        if (found.error !== undefined) throw found.error;
        expect(found.differences).toEqual([]);
        passed.set(c.group, (passed.get(c.group) ?? 0) + 1);
      });
    }
    afterAll(() => console.log(summary(runner, cases, passed)));
  });
}

interface Found {
  readonly how: 'passes' | 'refused' | 'differs';
  readonly differences: readonly string[];
  readonly error?: unknown;
}

async function attempt(runner: ConformanceRunner, c: ConformanceCase): Promise<Found> {
  try {
    const differences: string[] = [];
    for (const set of c.dataSets()) differences.push(...(await runDataSet(runner, c, set)));
    return { how: differences.length === 0 ? 'passes' : 'differs', differences };
  } catch (error) {
    return { how: 'refused', differences: [], error };
  }
}

async function runDataSet(runner: ConformanceRunner, c: ConformanceCase, set: DataSet): Promise<string[]> {
  const given = new Map(set.inputs.map((value, i) => [c.inputNames[i], value]));
  const constants = specialise(c.bytes, given);
  const inputs = new Map([...given].filter(([name]) => !Object.hasOwn(constants, name)));
  const outputs = await runner.run(c.bytes, constants, inputs);
  return set.outputs.flatMap((expected, i) => {
    const difference = differenceOf(outputs[i], expected);
    return difference === undefined ? [] : [`output ${i}: ${difference}`];
  });
}

/** What is wrong with an output; undefined where it is within the tolerances. Integers and bools must be equal. */
export function differenceOf(given: Tensor | undefined, expected: Tensor): string | undefined {
  if (!given) return 'is missing';
  const actual = expected.dtype === 'u16' ? asBits(given) : given;
  if (printType(actual) !== printType(expected)) return `is ${printType(actual)}, expected ${printType(expected)}`;
  if (!isFloat(expected.dtype)) {
    const at = expected.data.findIndex((value: number | bigint, i: number) => value !== actual.data[i]);
    return at < 0 ? undefined : `element ${at} is ${actual.data[at]}, expected ${expected.data[at]}`;
  }
  const [a, b] = [toNumbers(actual), toNumbers(expected)];
  for (let i = 0; i < b.length; i++) {
    if (a[i] === b[i] || (Number.isNaN(a[i]) && Number.isNaN(b[i]))) continue;
    if (Math.abs(a[i] - b[i]) <= ABSOLUTE + RELATIVE * Math.abs(b[i])) continue;
    return `element ${i} is ${a[i]}, expected ${b[i]}`;
  }
  return undefined;
}

/** NumPy has no bfloat16: the tests' files hold its bits as uint16. */
const asBits = (value: Tensor): Tensor => (value.dtype === 'bf16' ? { ...value, dtype: 'u16' } : value);

/** `wasm: node 870 of 875, … pass; 36 are outside`. */
function summary(
  runner: ConformanceRunner,
  cases: readonly ConformanceCase[],
  passed: ReadonlyMap<string, number>,
): string {
  const groups = [...new Set(cases.map((c) => c.group))];
  const counts = groups.map((group) => {
    const eligible = cases.filter((c) => c.group === group && c.outside === undefined);
    return `${group} ${passed.get(group) ?? 0} of ${eligible.length}`;
  });
  return `conformance on ${runner.name}: ${counts.join(', ')} pass; ${cases.filter((c) => c.outside !== undefined).length} are outside`;
}
