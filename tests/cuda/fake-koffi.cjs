/** Stands in for koffi inside a compiler worker: a driver whose cubin of a text is the text reversed, and whose context is 7. */
const blocks = new Map();
let next = 4096;
const place = (array) => {
  const address = next;
  next += 65536;
  blocks.set(address, array);
  return BigInt(address);
};
let context = 0;
let text = '';
const fake = {
  cuCtxSetCurrent: (handle) => {
    context = handle;
    return handle === 7 ? 0 : 201;
  },
  cuLinkCreate_v2: (count, keys, values, out) => {
    if (context !== 7 || keys.length !== count || values.length !== count) return 1;
    const log = (key, message) =>
      blocks.get(Number(values[keys.indexOf(key)])).set(new TextEncoder().encode(`${message}\0`));
    log(3, 'compiled');
    log(5, `options ${[...keys].slice(4)} ${[...values].slice(4)}`);
    out[0] = 99n;
    return 0;
  },
  cuLinkAddData_v2: (link, type, data, bytes) => {
    text = new TextDecoder().decode(data.subarray(0, bytes - 1));
    return link === 99 && type === 1 && data[bytes - 1] === 0 && !text.includes('broken') ? 0 : 218;
  },
  cuLinkComplete: (_link, address, size) => {
    const cubin = new TextEncoder().encode([...text].reverse().join(''));
    address[0] = place(cubin);
    size[0] = BigInt(cubin.length);
    return 0;
  },
  cuLinkDestroy: () => 0,
};
module.exports = {
  config: () => ({}),
  load: (file) => {
    if (file !== 'libfake.so') throw new Error(`cannot open ${file}`);
    return {
      func:
        (name, _result, args) =>
        (...given) => {
          if (given.length !== args.length) throw new Error(`${name} takes ${args.length} arguments`);
          return fake[name](...given);
        },
    };
  },
  address: place,
  view: (address, bytes) => blocks.get(address).buffer.slice(0, bytes),
};
