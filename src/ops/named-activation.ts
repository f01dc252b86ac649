/**
 * Activations that an operator names in an attribute, with up to two numbers as parameters: recurrent cells, fused convolutions.
 */
import type { Attrs } from '../graph/ir.ts';
import type { NodeWriter } from './node-writer.ts';

interface NamedActivation {
  /** Defaults of the parameters, in order. */
  readonly parameters: readonly number[];
  write(w: NodeWriter, x: string, parameters: readonly number[]): string;
}

/** One operator of the same name, whose attributes the parameters are. */
const direct = (op: string, names: readonly string[] = [], parameters: readonly number[] = []): NamedActivation => ({
  parameters,
  write(w, x, values) {
    const attrs: Attrs = Object.fromEntries(names.map((name, i) => [name, values[i]]));
    return w.node(op, [x], attrs);
  },
});
const times = (w: NodeWriter, x: string, factor: number): string => w.mul(x, w.scalar(w.type(x).dtype, factor));

const ACTIVATIONS: Readonly<Record<string, NamedActivation>> = {
  relu: direct('Relu'),
  tanh: direct('Tanh'),
  sigmoid: direct('Sigmoid'),
  softsign: direct('Softsign'),
  softplus: direct('Softplus'),
  leakyrelu: direct('LeakyRelu', ['alpha'], [0.01]),
  thresholdedrelu: direct('ThresholdedRelu', ['alpha'], [1]),
  elu: direct('Elu', ['alpha'], [1]),
  hardsigmoid: direct('HardSigmoid', ['alpha', 'beta'], [0.2, 0.5]),
  affine: {
    parameters: [1, 0],
    write: (w, x, [alpha, beta]) => w.add(times(w, x, alpha), w.scalar(w.type(x).dtype, beta)),
  },
  scaledtanh: {
    parameters: [1, 1],
    write: (w, x, [alpha, beta]) => times(w, w.node('Tanh', [times(w, x, beta)]), alpha),
  },
  clip: {
    parameters: [Number.NEGATIVE_INFINITY, Number.POSITIVE_INFINITY],
    write: (w, x, bounds) => w.node('Clip', [x, ...bounds.map((bound) => w.scalar(w.type(x).dtype, bound))]),
  },
};

/** An activation with its parameters. */
export interface Activation {
  readonly name: string;
  /** In the activation's order; defaults where undefined. */
  readonly parameters: readonly (number | undefined)[];
}

export const isActivation = (name: string): boolean => Object.hasOwn(ACTIVATIONS, name.toLowerCase());
/** How many parameters an activation takes. */
export const parameterCount = (name: string): number => ACTIVATIONS[name.toLowerCase()].parameters.length;

/** f(x) of an activation that isActivation knows. */
export function activate(w: NodeWriter, x: string, { name, parameters }: Activation): string {
  const row = ACTIVATIONS[name.toLowerCase()];
  return row.write(
    w,
    x,
    row.parameters.map((given, i) => parameters[i] ?? given),
  );
}
