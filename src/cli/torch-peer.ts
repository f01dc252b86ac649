/**
 * PyTorch as a runner: a python3 process that holds a module and times it itself (assets/torch-peer.py), so that no pipe is in its
 * times. PyTorch runs no ONNX files, so the module must be named; it takes the network's inputs in order and gives its outputs in order.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { DTYPES, type DType, isDType } from '../core/dtype.ts';
import { ModelError } from '../core/errors.ts';
import { shapesEqual } from '../core/shape.ts';
import { type Tensor, tensor, tensorBytes, zeros } from '../core/tensor.ts';
import type { NamedType, Runner } from './runner.ts';
import { formatType } from './table.ts';

export interface TorchModule {
  /** `torchvision.models:resnet50`, a TorchScript `.pt`, or a `.pt2` of torch.export. */
  readonly module: string;
  /** A state dict to load into it; without, the module's own weights, which for a constructor are random. */
  readonly weights?: string;
}

export interface TorchSettings extends TorchModule {
  readonly threads: number;
  /** Run on the GPU where PyTorch has one. */
  readonly gpu: boolean;
  readonly tf32: boolean;
}

const SCRIPT = fileURLToPath(new URL('../../assets/torch-peer.py', import.meta.url));
/** A python3 that comes first on the PATH need not be the one that has PyTorch. */
const PYTHONS = ['python3', '/usr/bin/python3', 'python'];

type Answer = Readonly<Record<string, unknown>>;

/** One python3 process: a request a line, an answer a line. */
class Python {
  readonly #child: ChildProcess;
  readonly #lines: AsyncIterator<string>;
  constructor(command: string) {
    this.#child = spawn(command, ['-u', SCRIPT], { stdio: ['pipe', 'pipe', 'ignore'] });
    // A missing command shows as an end of its output.
    this.#child.on('error', () => {});
    this.#child.stdin?.on('error', () => {});
    if (!this.#child.stdout) throw new Error('no pipe to python');
    this.#lines = createInterface({ input: this.#child.stdout })[Symbol.asyncIterator]();
  }
  /** The next answer; undefined where the process has ended. */
  async answer(): Promise<Answer | undefined> {
    const { value, done } = await this.#lines.next();
    return done ? undefined : (JSON.parse(value) as Answer);
  }
  async ask(request: object): Promise<Answer> {
    this.#child.stdin?.write(`${JSON.stringify(request)}\n`);
    const answer = await this.answer();
    if (answer === undefined) throw new ModelError('option-invalid', 'PyTorch’s process ended');
    if (typeof answer.error === 'string')
      throw new ModelError('option-invalid', `PyTorch: ${answer.error}: ${answer.message}`);
    return answer;
  }
  end(): void {
    this.#child.stdin?.end();
    this.#child.kill();
  }
}

/** Throws ModelError `package-missing` where no python3 has PyTorch, `option-invalid` where the module does not load. */
export async function openTorch(
  settings: TorchSettings,
  types: { readonly inputs: readonly NamedType[]; readonly outputs: readonly NamedType[] },
): Promise<Runner> {
  const python = await startPython();
  const folder = mkdtempSync(join(tmpdir(), 'hotrod-torch-'));
  const dispose = (): void => {
    python.end();
    rmSync(folder, { recursive: true, force: true });
  };
  let results: ReadonlyMap<string, Tensor> = new Map();
  const run = async (): Promise<number> => Number((await python.ask({ command: 'run' })).ms);
  const setInputs = async (values: ReadonlyMap<string, Tensor>): Promise<void> => {
    const inputs = types.inputs.map(({ name }, i) => {
      const { dtype, shape, ...value } = values.get(name) as Tensor;
      const file = join(folder, `in${i}`);
      writeFileSync(file, tensorBytes({ dtype, shape, ...value }));
      return { file, dtype, shape };
    });
    await python.ask({ command: 'inputs', inputs });
    await run();
    results = readOutputs(await python.ask({ command: 'outputs', folder }), settings.module, types.outputs);
  };
  try {
    const { version, device } = await python.ask({ command: 'open', ...settings });
    // Another network under the same name shows here, by its outputs.
    await setInputs(new Map(types.inputs.map(({ name, dtype, shape }) => [name, zeros(dtype, shape)])));
    return {
      name: `torch ${String(version).replace(/\+.*/, '')} ${device}`,
      inputs: types.inputs,
      threads: settings.threads,
      setInputs,
      run: async () => {
        await run();
      },
      timeItself: run,
      outputs: () => results,
      dispose,
    };
  } catch (error) {
    dispose();
    throw error;
  }
}

async function startPython(): Promise<Python> {
  const reasons: string[] = [];
  for (const command of PYTHONS) {
    const python = new Python(command);
    const answer = await python.answer();
    if (answer !== undefined && typeof answer.ready === 'string') return python;
    python.end();
    reasons.push(`${command}: ${answer === undefined ? 'not found' : answer.message}`);
  }
  throw new ModelError('package-missing', `no python3 here has PyTorch (${reasons.join('; ')})`, {
    hint: 'pip install torch torchvision, or apt-get install python3-torch python3-torchvision',
  });
}

/** The outputs under the network's names. Throws ModelError `shape-mismatch` where the module is another network. */
function readOutputs(answer: Answer, module: string, types: readonly NamedType[]): ReadonlyMap<string, Tensor> {
  const given = answer.outputs as readonly {
    readonly file: string;
    readonly dtype: string;
    readonly shape: readonly number[];
  }[];
  const fits = given.length >= types.length && types.every(({ shape }, i) => shapesEqual(shape, given[i].shape));
  if (!fits) {
    const list = (all: readonly { dtype: string; shape: readonly unknown[] }[]) => all.map(formatType).join(', ');
    throw new ModelError('shape-mismatch', `${module} gives ${list(given)}, the engine ${list(types)}`, {
      hint: 'Name the PyTorch module of the same network with --torch-module.',
    });
  }
  return new Map(types.map(({ name }, i) => [name, readTensor(given[i])]));
}

function readTensor({
  file,
  dtype,
  shape,
}: {
  readonly file: string;
  readonly dtype: string;
  readonly shape: readonly number[];
}): Tensor {
  if (!isDType(dtype)) throw new ModelError('onnx-unsupported', `PyTorch gave an output of ${dtype}`);
  const bytes = readFileSync(file);
  const copy = bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength);
  return tensor(dtype, shape, new DTYPES[dtype as DType].array(copy));
}
