'use strict';
// The page fetches itself and changes what differs, in place: what the reader has opened, focused or scrolled to stays.
(() => {
  const every = 2000, patience = 8000;
  const $ = id => document.getElementById(id);
  const clock = () => document.querySelector('#asof time').textContent;
  let paused = false, busy = false, timer = 0, answered = Date.now(), trouble = '', wanted = 0;

  const name = n => n.nodeType === 1 ? n.nodeName + (n.id || n.dataset.key || '') : n.nodeName;

  function morph(old, fresh) {
    if (old.nodeType !== 1) {
      if (old.data !== fresh.data) old.data = fresh.data;
      return;
    }
    const mine = a => old.nodeName === 'DETAILS' && a.name === 'open'; // the reader's
    for (const a of [...old.attributes]) if (!fresh.hasAttribute(a.name) && !mine(a)) old.removeAttribute(a.name);
    for (const a of fresh.attributes) if (old.getAttribute(a.name) !== a.value && !mine(a)) old.setAttribute(a.name, a.value);
    morphChildren(old, fresh);
  }

  function morphChildren(old, fresh) {
    const keyed = new Map();
    for (const n of old.children) if (n.id || n.dataset.key) keyed.set(name(n), n);
    let at = old.firstChild;
    for (const want of [...fresh.childNodes]) {
      const key = name(want);
      let have = keyed.get(key);
      if (have) keyed.delete(key); else if (at && name(at) === key && !(at.id || at.dataset?.key)) have = at;
      if (!have) {
        old.insertBefore(document.importNode(want, true), at);
        continue;
      }
      if (have !== at) old.insertBefore(have, at); else at = at.nextSibling;
      morph(have, want);
    }
    while (at) {
      const next = at.nextSibling;
      at.remove();
      at = next;
    }
  }

  function show(fresh) {
    if (fresh.querySelector('script').textContent !== document.querySelector('body > script').textContent) {
      location.reload(); // the service was replaced by one with another page
      return;
    }
    const focused = document.activeElement;
    for (const part of document.querySelectorAll('[data-live]')) morph(part, fresh.getElementById(part.id));
    if (document.title !== fresh.title) document.title = fresh.title;
    const icon = fresh.querySelector('link[rel=icon]').getAttribute('href'), link = document.querySelector('link[rel=icon]');
    if (link.getAttribute('href') !== icon) link.setAttribute('href', icon);
    if (focused?.isConnected && focused !== document.activeElement) focused.focus({preventScroll: true});
  }

  async function refresh() {
    clearTimeout(timer);
    if (busy) { wanted = 1; return; }
    busy = true; wanted = 0;
    const giveUp = new AbortController(), limit = setTimeout(() => giveUp.abort(), patience);
    try {
      const answer = await fetch(location.pathname + location.search, {cache: 'no-store', signal: giveUp.signal});
      if (!answer.ok) throw new Error('The service answers ' + answer.status + ' instead of this page.');
      const fresh = new DOMParser().parseFromString(await answer.text(), 'text/html');
      if (!fresh.getElementById('pools')) throw new Error('The service answers something other than this page.');
      if (!paused && !wanted) show(fresh); // it may have been paused, or sorted, meanwhile
      answered = Date.now(); trouble = '';
    } catch (e) {
      trouble = e.constructor === Error ? e.message : 'The service does not answer.';
    }
    clearTimeout(limit);
    busy = false;
    tell();
    if (wanted) refresh(); else again();
  }

  function again() {
    clearTimeout(timer);
    if (!paused && !document.hidden) timer = setTimeout(refresh, every);
  }

  function put(e, text) { if (e.textContent !== text) e.textContent = text; }

  function tell() {
    put($('state'), paused ? 'Paused.' : 'Refreshes every 2 s.');
    const lost = trouble !== '' && !paused, [what, since] = $('lost').children;
    document.documentElement.classList.toggle('stale', lost);
    $('lost').hidden = !lost;
    put(what, lost ? trouble : '');
    put(since, lost ? 'Last answer ' + Math.round((Date.now() - answered) / 1000) + ' s ago; what you see is as of ' + clock() + '.' : '');
  }

  // Sorting orders the rows that are there at once, also when paused or without an answer; the next refresh brings the
  // first of all in that order.
  function sort(by) {
    for (const table of document.querySelectorAll('table.statements')) {
      const heads = [...table.tHead.rows[0].cells], column = heads.findIndex(h => h.querySelector('a')?.dataset.sort === by);
      heads.forEach((h, i) => i === column ? h.setAttribute('aria-sort', 'descending') : h.removeAttribute('aria-sort'));
      put(table.querySelector('caption [data-means]'), heads[column].querySelector('a').dataset.means);
      const value = row => Number(row.cells[column].dataset.value);
      table.tBodies[0].append(...[...table.tBodies[0].rows].sort((a, b) => value(b) - value(a)));
    }
    history.replaceState(null, '', '?sort=' + encodeURIComponent(by));
    if (!paused) refresh();
  }

  document.addEventListener('click', e => {
    const link = e.target.closest?.('a[data-sort]');
    if (!link || e.ctrlKey || e.metaKey || e.shiftKey || e.altKey) return;
    e.preventDefault();
    sort(link.dataset.sort);
  });
  $('pause').addEventListener('click', () => {
    paused = !paused;
    $('pause').setAttribute('aria-pressed', String(paused));
    tell();
    if (paused) clearTimeout(timer); else refresh();
  });
  document.addEventListener('visibilitychange', () => { if (document.hidden) clearTimeout(timer); else if (!paused) refresh(); });
  setInterval(tell, 1000);
  $('live').hidden = false;
  tell();
  again();
})();
