// What was dropped: files, and those in dropped folders, as a CD has them.

/** All files of a drop, folders walked, in the order of their names. */
export async function filesOf({ items, files }) {
  const entries = [...items].map((item) => item.webkitGetAsEntry?.()); // before the first await: the list is emptied then
  if (!entries.every(Boolean)) return [...files];
  return (await Promise.all(entries.map(walk))).flat();
}

async function walk(entry) {
  if (entry.isFile) return [await new Promise((resolve, reject) => { entry.file(resolve, reject); })];
  const reader = entry.createReader();
  const found = [];
  for (;;) {
    const some = await new Promise((resolve, reject) => { reader.readEntries(resolve, reject); }); // a hundred at a time
    if (!some.length) break;
    found.push(...some);
  }
  found.sort((a, b) => a.name.localeCompare(b.name, undefined, { numeric: true }));
  return (await Promise.all(found.map(walk))).flat();
}
