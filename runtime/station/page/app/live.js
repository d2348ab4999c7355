// What changes at the station, as it changes; where events do not come, the page asks now and then.

import { eventsOf, send } from './api.js';

const AGAIN = 8000; // milliseconds between two looks without events
const wait = (milliseconds) => new Promise((resolve) => { setTimeout(resolve, milliseconds); });

/**
 * Follow the station until the page is closed.
 * @param changed called with {kind: 'study' | 'job', data}, or {kind: 'look'} where something may have changed
 * @param told called with 'live', 'asking' or 'away'
 */
export async function follow(changed, told) {
  let last = null;
  for (;;) {
    try {
      const headers = last === null ? {} : { 'Last-Event-ID': last };
      const response = await send('GET', '/v1/events', { background: true, headers });
      told('live');
      changed({ kind: 'look' });
      for await (const { event, data, id } of eventsOf(response)) {
        if (id) last = id;
        if (data) changed({ kind: event, data: JSON.parse(data) });
      }
    } catch (error) {
      if (error.code === 'no_store' || error.status === 401) return told('none');
      told(error.code === 'unreachable' ? 'away' : 'asking');
      await wait(AGAIN);
      changed({ kind: 'look' });
      continue;
    }
    await wait(1000);
  }
}
