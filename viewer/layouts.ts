/** Scenes on request: laid out in a worker; where there can be none (some browsers on file://), on this thread. */
import type { PageModel } from '../src/view/page.ts';
import { layoutScene, type Scene } from '../src/view/scene.ts';
import type { SideName } from './network.ts';

export class Layouts {
  readonly #model: PageModel;
  readonly #worker: Worker | undefined;
  readonly #waiting = new Map<number, (scene: Scene) => void>();
  #next = 0;

  constructor(model: PageModel, workerSource: string) {
    this.#model = model;
    this.#worker = startWorker(workerSource);
    if (!this.#worker) return;
    // What the layout reads, without the panels' texts and histograms.
    const bare = (side: SideName) => {
      const found = model[side];
      const items = found?.items.map((item) => ({ ...item, inputs: [], outputs: [], facts: [] }));
      return found && { items, edges: found.edges };
    };
    this.#worker.postMessage({ model: { groups: model.groups, graph: bare('graph'), engine: bare('engine') } });
    this.#worker.onmessage = ({ data }) => {
      this.#waiting.get(data.id)?.(data.scene);
      this.#waiting.delete(data.id);
    };
  }

  scene(side: SideName, open: ReadonlySet<number>): Promise<Scene> {
    const found = this.#model[side];
    if (!found) throw new Error(`the page has no ${side}`);
    if (!this.#worker) return Promise.resolve(layoutScene(found, this.#model.groups, open));
    const id = this.#next++;
    this.#worker.postMessage({ id, side, open: [...open] });
    return new Promise((resolve) => this.#waiting.set(id, resolve));
  }
}

function startWorker(source: string): Worker | undefined {
  try {
    return new Worker(URL.createObjectURL(new Blob([source], { type: 'text/javascript' })));
  } catch {
    return undefined;
  }
}
