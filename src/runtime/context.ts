/**
 * An execution context: one use of a loaded engine, with its own memory for intermediate values. Named typed arrays in and out.
 *
 * Dtypes are the typed arrays of core/dtype.ts: BigInt64Array for i64, Uint8Array of 0 and 1 for bool, the bits in a Uint16Array
 * for f16 and bf16; for f16 also a Float16Array where the host has one. Everything is looked up by name once, in the constructor,
 * so that `run` with outputs of the caller's allocates nothing.
 */
import { DTYPES, type DType, type TypedArray } from '../core/dtype.ts';
import { type ErrorCode, ModelError } from '../core/errors.ts';
import { elements, printShape, rowMajorStrides, type StaticShape } from '../core/shape.ts';
import type { Tensor } from '../core/tensor.ts';
import type { DeviceContext, DeviceMemory, DeviceStream, PhaseTimes } from '../engine/device.ts';
import type { Binding, Engine } from '../engine/engine.ts';
import { Shapes } from './shapes.ts';

/** What the runtime uses of ES2025's Float16Array, which not every host and compiler has. */
export interface Float16ArrayLike {
  readonly [Symbol.toStringTag]: 'Float16Array';
  readonly buffer: ArrayBufferLike;
  readonly byteOffset: number;
  readonly length: number;
  subarray(begin: number, end: number): Float16ArrayLike;
}
export type RuntimeArray = TypedArray | Float16ArrayLike;

/** A network input or output as the caller sees it: row-major. */
export interface IoInfo {
  readonly name: string;
  readonly dtype: DType;
  readonly shape: StaticShape;
  readonly elements: number;
}
export const ioInfo = ({ name, dtype, shape }: Pick<Binding, 'name' | 'dtype' | 'shape'>): IoInfo => ({
  name,
  dtype,
  shape,
  elements: elements(shape),
});

export interface StepProfile {
  /** The ONNX nodes that the step computes. */
  readonly loc: readonly string[];
  readonly kernel: string;
  readonly template: string;
  readonly ns: number;
}

/** An input or output and the device's array for it, of which the present shape takes a corner. */
class Port {
  readonly binding: Binding;
  info: IoInfo;
  readonly #array: TypedArray;
  /** The array as far as the present shape fills it in one piece. */
  #piece: TypedArray;
  /** Where the rows start that a corner consists of, and how long they are; one row: it is in one piece. */
  #starts: readonly number[] = [0];
  #rowElements: number;
  readonly #tag: string;
  /** Whether the data decided the shape, so that whoever brings an array could not know it. */
  #isDecided = false;
  /** The last Float16Array seen and its bits, so that passing the same one again makes no view. */
  #float16: Float16ArrayLike | undefined;
  #bits: Uint16Array | undefined;

  constructor(binding: Binding, array: TypedArray) {
    this.binding = binding;
    this.info = ioInfo(binding);
    this.#array = array;
    this.#piece = array;
    this.#rowElements = array.length;
    this.#tag = DTYPES[binding.dtype].array.name;
  }

  /** The device's array itself. */
  get own(): TypedArray {
    return this.#array;
  }

  /** From now on the shape is this one, which lies within the binding's. */
  resize(shape: StaticShape, decided = false): void {
    this.#isDecided = decided;
    if (equalShapes(this.info.shape, shape)) return;
    const whole = this.binding.shape;
    this.info = ioInfo({ ...this.binding, shape });
    // Dims behind the last one that is not full make up a row, with it.
    let last = shape.length - 1;
    while (last > 0 && shape[last] === whole[last]) last--;
    const strides = rowMajorStrides(whole);
    this.#rowElements = elements(shape.slice(Math.max(0, last)));
    let starts = [0];
    for (let d = 0; d < last; d++)
      starts = starts.flatMap((at) => Array.from({ length: shape[d] }, (_, i) => at + i * strides[d]));
    this.#starts = starts;
    this.#piece = this.#array.subarray(0, this.info.elements);
  }

  write(value: RuntimeArray | Tensor): void {
    const data = this.#checked(isTensor(value) ? this.#tensorData(value) : value, 'input', 'input-mismatch');
    if (this.#starts.length === 1) {
      this.#piece.set(data as never);
      return;
    }
    let from = 0;
    for (const start of this.#starts)
      for (let i = 0; i < this.#rowElements; i++) this.#array[start + i] = data[from++] as never;
  }

  read(into: RuntimeArray): void {
    const isLonger = this.#isDecided && into.length > this.info.elements;
    const part = isLonger && ArrayBuffer.isView(into) ? into.subarray(0, this.info.elements) : into;
    const data = this.#checked(part, 'output', 'option-invalid');
    if (this.#starts.length === 1) {
      data.set(this.#piece as never);
      return;
    }
    let to = 0;
    for (const start of this.#starts)
      for (let i = 0; i < this.#rowElements; i++) data[to++] = this.#array[start + i] as never;
  }

  copy(): TypedArray {
    const out = new DTYPES[this.info.dtype].array(this.info.elements);
    this.read(out);
    return out;
  }

  #tensorData(tensor: Tensor): TypedArray {
    const { name, dtype, shape } = this.info;
    if (tensor.dtype !== dtype || printShape(tensor.shape) !== printShape(shape)) {
      const [wanted, got] = [`${dtype}${printShape(shape)}`, `${tensor.dtype}${printShape(tensor.shape)}`];
      throw new ModelError('input-mismatch', `input "${name}" is ${wanted}, got ${got}`);
    }
    return tensor.data;
  }

  /** The array, as the elements are stored, after its type and length are found right. */
  #checked(value: RuntimeArray, role: string, code: ErrorCode): TypedArray {
    const { dtype, elements: count } = this.info;
    const tag = ArrayBuffer.isView(value) ? (value as RuntimeArray)[Symbol.toStringTag] : typeof value;
    if (tag === this.#tag && value.length === count) return value as TypedArray;
    if (dtype === 'f16' && tag === 'Float16Array' && value.length === count)
      return this.#bitsOf(value as Float16ArrayLike);
    throw this.#mismatch(tag, value, role, code);
  }

  #mismatch(tag: string, value: RuntimeArray, role: string, code: ErrorCode): ModelError {
    const { name, dtype, shape, elements: count } = this.info;
    const also = dtype === 'f16' ? ' or Float16Array' : '';
    const got = ArrayBuffer.isView(value) ? `${tag} of ${value.length}` : tag;
    return new ModelError(
      code,
      `${role} "${name}" is ${dtype}${printShape(shape)}: expected ${this.#tag}${also} of ${count} elements, got ${got}`,
    );
  }

  #bitsOf(value: Float16ArrayLike): Uint16Array {
    if (this.#float16 !== value || this.#bits === undefined) {
      this.#bits = new Uint16Array(value.buffer, value.byteOffset, value.length);
      this.#float16 = value;
    }
    return this.#bits;
  }
}

const isTensor = (value: RuntimeArray | Tensor): value is Tensor =>
  typeof value === 'object' && value !== null && 'dtype' in value && 'data' in value;

const equalShapes = (a: StaticShape, b: StaticShape): boolean => {
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
};

const missingInput = ({ name, dtype, shape }: IoInfo): ModelError =>
  new ModelError('input-missing', `input "${name}", ${dtype}${printShape(shape)}, is missing`);

export class ExecutionContext {
  readonly #engine: Engine;
  readonly #device: DeviceContext;
  readonly #inputs: readonly Port[];
  readonly #inputByName: ReadonlyMap<string, Port>;
  readonly #outputByName: ReadonlyMap<string, Port>;
  readonly #isOpen: () => boolean;
  /** Where the engine leaves sizes open. */
  readonly #shapes: Shapes | undefined;
  /** Outputs whose shapes only a run tells. */
  readonly #decided: readonly Port[];
  #disposed = false;

  /** Made by RuntimeEngine.createContext. `isOpen` tells whether the engine still is. */
  constructor(engine: Engine, device: DeviceContext, isOpen: () => boolean) {
    this.#engine = engine;
    this.#device = device;
    this.#isOpen = isOpen;
    this.#inputs = engine.inputs.map((binding, i) => new Port(binding, device.inputs[i]));
    const outputs = engine.outputs.map((binding, i) => new Port(binding, device.outputs[i]));
    this.#inputByName = new Map(this.#inputs.map((port) => [port.info.name, port]));
    this.#outputByName = new Map(outputs.map((port) => [port.info.name, port]));
    this.#shapes = device.sizes && new Shapes(engine, device.sizes);
    if (this.#shapes) this.#resize(this.#shapes);
    this.#decided = outputs.filter((port) => this.#shapes?.isDecidedByData(port.binding));
  }

  /**
   * The shape of an input from now on, where the engine was built with profiles; inputs that share an open size with it change too. Until
   * it is called the shapes are the usual ones of the first profile. Throws ModelError `input-unknown`, `input-mismatch` (outside the
   * profiles) or `disposed`.
   */
  setShape(name: string, shape: StaticShape): void {
    this.#checkOpen();
    const port = this.#inputByName.get(name);
    if (!port) throw this.#unknown('input', name, this.#inputByName);
    if (port.info.shape.join() === shape.join()) return;
    if (!this.#shapes)
      throw new ModelError(
        'input-mismatch',
        `input "${name}" of engine "${this.#engine.name}" is ${printShape(port.info.shape)}, not ${printShape(shape)}`,
        { hint: 'build the engine with profiles that have this shape' },
      );
    this.#shapes.set(port.binding, shape);
    this.#resize(this.#shapes);
  }

  /**
   * The present shape of an input or output. Where the data decide it, that of the last run, and before the first one the largest that
   * there can be. Throws ModelError `option-invalid`.
   */
  shapeOf(name: string): StaticShape {
    return (this.#inputByName.get(name) ?? this.#output(name)).info.shape;
  }

  /** Whether only a run tells the shape of an output. Throws ModelError `option-invalid`. */
  isDecidedByData(name: string): boolean {
    return this.#decided.includes(this.#output(name));
  }

  /** Outputs whose shapes only a run tells have them now. */
  #takeDecided(): void {
    if (!this.#shapes) return;
    for (const port of this.#decided) port.resize(this.#shapes.of(port.binding), true);
  }

  #resize(shapes: Shapes): void {
    for (const port of [...this.#inputByName.values(), ...this.#outputByName.values()])
      port.resize(shapes.of(port.binding));
  }

  /**
   * Runs the network once. `inputs` has every input by name: elements in row-major order, copied before anything runs. `outputs` has
   * arrays to write the outputs of those names to, and is returned; without it all outputs come in new arrays. Where the data decide
   * how large an output is, its array may be longer than it: `shapeOf` then tells what it holds.
   * Throws ModelError `input-missing`, `input-unknown`, `input-mismatch`, `option-invalid` (an output that does not fit) or `disposed`.
   */
  run(inputs: Readonly<Record<string, RuntimeArray | Tensor>>): Record<string, TypedArray>;
  run<T extends Readonly<Record<string, RuntimeArray>>>(
    inputs: Readonly<Record<string, RuntimeArray | Tensor>>,
    outputs: T,
  ): T;
  run(
    inputs: Readonly<Record<string, RuntimeArray | Tensor>>,
    outputs?: Readonly<Record<string, RuntimeArray>>,
  ): Readonly<Record<string, RuntimeArray>> {
    this.#checkOpen();
    if (outputs) for (const name in outputs) this.#output(name);
    this.#write(inputs);
    this.#device.execute();
    this.#takeDecided();
    if (!outputs) return this.#copyOutputs();
    for (const name in outputs) {
      const port = this.#output(name);
      if (outputs[name] !== port.own) port.read(outputs[name]);
    }
    return outputs;
  }

  /** Runs the network once, timing each step on one thread: slower than `run`. Rows are in the order in which steps run. */
  profile(inputs: Readonly<Record<string, RuntimeArray | Tensor>>): readonly StepProfile[] {
    this.#checkOpen();
    this.#write(inputs);
    const ns = new Float64Array(this.#engine.steps.length);
    this.#device.profile(ns);
    this.#takeDecided();
    return this.#engine.steps.map(({ loc, kernel, tactic }, i) => ({
      loc,
      kernel: this.#engine.kernels[kernel].name,
      template: tactic.template,
      ns: ns[i],
    }));
  }

  /**
   * The array that an input is read from. Who fills it in place and gives it to `run` saves a copy; a run may leave anything in it, unless
   * `keepsInputs`. Throws ModelError `input-unknown`.
   */
  inputArray(name: string): TypedArray {
    const port = this.#inputByName.get(name);
    if (!port) throw this.#unknown('input', name, this.#inputByName);
    return port.own;
  }

  /** The array that an output is written to: given to `run`, it is not copied. It holds until the next run. Throws `option-invalid`. */
  outputArray(name: string): TypedArray {
    return this.#output(name).own;
  }

  /** True where running leaves the arrays of inputs as they are. */
  get keepsInputs(): boolean {
    return this.#device.keepsInputs === true;
  }

  /**
   * Puts the network into a stream of the caller's and returns at once. Every input is read from memory of the device or pinned memory of
   * the host (row-major, the binding's dtype), the outputs named are written to such, all in the order of the stream; memory must live
   * until that work is done. What fails on the device is told when the stream is waited for.
   * Throws as `run`, and `option-invalid` where the target has no streams or memory is too short.
   */
  enqueue(
    stream: DeviceStream,
    inputs: Readonly<Record<string, DeviceMemory>>,
    outputs: Readonly<Record<string, DeviceMemory>> = {},
  ): void {
    this.#checkOpen();
    if (!this.#device.enqueue) {
      throw new ModelError(
        'option-invalid',
        `engine "${this.#engine.name}" is for ${this.#engine.target}, which has no streams`,
        {
          hint: 'use run',
        },
      );
    }
    for (const name in inputs) if (!this.#inputByName.has(name)) throw this.#unknown('input', name, this.#inputByName);
    for (const name in outputs) this.#output(name);
    const memory = (role: 'input' | 'output', { name, buffer }: Binding, given: DeviceMemory): DeviceMemory => {
      if (given.byteLength >= buffer.bytes) return given;
      const [code, got] = [role === 'input' ? 'input-mismatch' : 'option-invalid', given.byteLength] as const;
      throw new ModelError(code, `${role} "${name}" takes ${buffer.bytes} bytes of memory, got ${got}`);
    };
    const from = this.#engine.inputs.map((binding) => {
      const given = inputs[binding.name];
      if (given === undefined) throw missingInput(ioInfo(binding));
      return memory('input', binding, given);
    });
    const to = this.#engine.outputs.map((binding) => {
      const given = outputs[binding.name];
      return given && memory('output', binding, given);
    });
    this.#device.enqueue(stream, from, to);
  }

  /**
   * Times `count` inferences back to back, copies and kernels each by themselves; undefined where the target cannot tell them apart.
   * Throws as `run`.
   */
  phases(inputs: Readonly<Record<string, RuntimeArray | Tensor>>, count: number): PhaseTimes | undefined {
    this.#checkOpen();
    this.#write(inputs);
    return this.#device.phases?.(count);
  }

  /** Frees the context's memory. Calling twice is harmless. */
  dispose(): void {
    if (this.#disposed) return;
    this.#disposed = true;
    this.#device.dispose();
  }
  [Symbol.dispose](): void {
    this.dispose();
  }

  #checkOpen(): void {
    if (!this.#disposed && this.#isOpen()) return;
    throw new ModelError('disposed', `a context of engine "${this.#engine.name}" was used after dispose`);
  }

  #write(inputs: Readonly<Record<string, RuntimeArray | Tensor>>): void {
    for (const name in inputs) if (!this.#inputByName.has(name)) throw this.#unknown('input', name, this.#inputByName);
    if (this.#shapes) this.#takeShapes(this.#shapes, inputs);
    for (const port of this.#inputs) {
      const value = inputs[port.info.name];
      if (value === undefined) throw missingInput(port.info);
      if (value !== port.own) port.write(value);
    }
  }

  /** Tensors bring their shapes. */
  #takeShapes(shapes: Shapes, inputs: Readonly<Record<string, RuntimeArray | Tensor>>): void {
    for (const port of this.#inputs) {
      const value = inputs[port.info.name];
      if (value !== undefined && isTensor(value) && !equalShapes(value.shape, port.info.shape))
        this.setShape(port.info.name, value.shape);
    }
    shapes.check();
  }

  #output(name: string): Port {
    const port = this.#outputByName.get(name);
    if (!port) throw this.#unknown('output', name, this.#outputByName);
    return port;
  }

  #unknown(role: 'input' | 'output', name: string, ports: ReadonlyMap<string, Port>): ModelError {
    const names = [...ports.keys()].map((n) => `"${n}"`).join(', ');
    return new ModelError(
      role === 'input' ? 'input-unknown' : 'option-invalid',
      `engine "${this.#engine.name}" has no ${role} "${name}"`,
      { hint: `its ${role}s are ${names}` },
    );
  }

  #copyOutputs(): Record<string, TypedArray> {
    return Object.fromEntries([...this.#outputByName].map(([name, port]) => [name, port.copy()]));
  }
}
