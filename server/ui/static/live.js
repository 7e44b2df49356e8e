// Pages follow along: one stream per visible page says what changed, and htmx asks for those parts.
(() => {
  const body = document.body;
  if (!body.dataset.live) return;
  let stream = null;

  function open() {
    if (stream || document.hidden) return;
    stream = new EventSource(body.dataset.live);
    for (const topic of ["inbox", "case"]) stream.addEventListener(topic, () => htmx.trigger(body, `news:${topic}`));
    stream.addEventListener("token", (event) => say(JSON.parse(event.data)));
    stream.onopen = () => lost(false);
    stream.onerror = () => lost(true);
  }

  // Browsers allow few connections to one place: a page nobody looks at gives its own back.
  function close() {
    if (stream) stream.close();
    stream = null;
  }

  let patience = 0;
  function lost(is) {
    clearTimeout(patience);
    const mark = document.getElementById("lost");
    if (!is) mark.hidden = true;
    else patience = setTimeout(() => { mark.hidden = document.hidden; }, 6000);
  }

  function say(token) {
    const place = document.getElementById("saying");
    if (!place) return;
    if (place.dataset.message !== token.message_id) {
      place.dataset.message = token.message_id;
      place.textContent = "";
    }
    if (token.at <= place.textContent.length) place.textContent = place.textContent.slice(0, token.at) + token.text;
    place.hidden = !place.textContent;
  }

  document.addEventListener("visibilitychange", () => {
    if (document.hidden) return close();
    open();
    for (const topic of ["inbox", "case"]) htmx.trigger(body, `news:${topic}`);
  });
  addEventListener("pagehide", close);
  addEventListener("pageshow", open);
  open();

  // The number of decisions that wait stands in the title, too.
  const title = document.title.replace(/^\(\d+\+?\) /, "");
  function count() {
    const waits = document.querySelector("#waits .count")?.textContent.trim();
    document.title = waits && waits !== "0" ? `(${waits}) ${title}` : title;
  }
  body.addEventListener("htmx:afterSettle", count);
  count();

  // Relative times go on by themselves.
  const UNITS = [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]];
  function span(seconds) {
    const first = UNITS.findIndex(([, size]) => seconds >= size);
    let rest = Math.round(seconds);
    return UNITS.map(([unit, size]) => { const n = Math.floor(rest / size); rest -= n * size; return [n, unit]; })
      .slice(first, first + 2).filter(([n]) => n).map(([n, unit]) => `${n} ${unit}`).join(" ");
  }
  setInterval(() => {
    for (const time of document.querySelectorAll("time[data-ago]")) {
      const apart = (Date.now() - new Date(time.dateTime)) / 1000;
      if (Math.abs(apart) >= 10) time.textContent = apart > 0 ? `${span(apart)} ago` : `in ${span(-apart)}`;
    }
  }, 15000);
})();
