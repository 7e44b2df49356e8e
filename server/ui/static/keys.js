// The keyboard, and the inbox's list beside its pane. Everything here can also be done without a script.
(() => {
  const WIDE = matchMedia("(min-width: 1101px)");
  const body = document.body;
  const pane = () => document.getElementById("pane");
  const rows = () => [...document.querySelectorAll("[data-row]")];
  const current = () => rows().find((row) => row.hasAttribute("aria-current"));
  const card = () => (pane() && WIDE.matches ? pane() : document).querySelector(".card.pending");

  function select(row, scroll = true) {
    if (!row) return;
    for (const other of rows()) other.removeAttribute("aria-current");
    row.setAttribute("aria-current", "true");
    if (scroll) row.scrollIntoView({ block: "nearest" });
    if (!pane()) { row.focus({ preventScroll: true }); return; }
    if (!WIDE.matches) return;
    htmx.ajax("GET", `/desk/approvals/${row.dataset.row}/card`, { target: "#pane", swap: "innerHTML" });
  }

  function move(step) {
    const all = rows();
    const at = all.indexOf(current());
    select(all[Math.min(Math.max(at + step, 0), all.length - 1)]);
  }

  // Approving by key takes two strokes: one stray key must move no money.
  function approve() {
    const button = card()?.querySelector("[data-approve]");
    if (!button) return;
    if (button.classList.contains("armed")) { button.click(); return; }
    button.classList.add("armed");
    button.focus();
    button.addEventListener("blur", () => button.classList.remove("armed"), { once: true });
  }

  function unfold(answer) {
    const form = card()?.querySelector(`details[data-answer="${answer}"]`);
    if (!form) return;
    form.open = true;
    form.querySelector("select, textarea, input:not([type=hidden])")?.focus();
  }

  function help() {
    const sheet = document.getElementById("help");
    if (sheet.open) sheet.close();
    else sheet.showModal();
  }

  const GO = { i: "/", c: "/desk/cases", h: "/desk/handed", w: "/desk/workflows", n: "/desk/numbers" };
  let going = 0;
  const KEYS = {
    j: () => move(1),
    k: () => move(-1),
    o: () => { const row = current(); if (row) location.href = row.dataset.open || row.href; },
    a: approve,
    e: () => unfold("edit"),
    r: () => unfold("reject"),
    x: () => current()?.closest("li")?.querySelector(".pick input")?.click(),
    "/": () => document.querySelector("input[type=search]")?.focus(),
    "?": help,
    g: () => { going = Date.now(); },
  };

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const typing = event.target.closest("input:not([type=checkbox]), select, textarea");
    if (event.key === "Escape") {
      if (typing) typing.blur();
      const open = document.querySelector(".answers details[open]");
      if (open) { open.open = false; open.querySelector("summary").focus(); }
      return;
    }
    if (typing) return;
    if (Date.now() - going < 1200 && GO[event.key]) { location.href = GO[event.key]; return; }
    const act = KEYS[event.key];
    if (!act) return;
    event.preventDefault();
    act();
  });

  document.addEventListener("click", (event) => {
    if (event.target.closest("[data-help]")) help();
    const row = event.target.closest("a[data-row]");
    if (row && pane() && WIDE.matches && !event.ctrlKey && !event.metaKey && event.button === 0) {
      event.preventDefault();
      select(row, false);
    }
    const alike = event.target.closest("[data-alike]");
    if (alike) {
      const of = document.querySelector(".pick input:checked")?.dataset.kind;
      for (const box of document.querySelectorAll(".pick input")) if (box.dataset.kind === of) box.checked = true;
      together();
    }
  });

  // The bar that decides several together shows while something is picked.
  function together() {
    const bar = document.getElementById("together");
    if (!bar) return;
    const picked = document.querySelectorAll(".pick input:checked");
    bar.hidden = !picked.length;
    document.getElementById("picked").textContent = picked.length;
  }
  body.addEventListener("change", (event) => { if (event.target.closest(".pick")) together(); });

  // A list that was asked for anew keeps what was chosen and picked in the old one.
  let kept = { row: null, picked: [] };
  body.addEventListener("htmx:beforeSwap", (event) => {
    if (event.target.id !== "list") return;
    kept = {
      row: current()?.dataset.row,
      picked: [...document.querySelectorAll(".pick input:checked")].map((box) => box.value),
    };
  });
  body.addEventListener("htmx:afterSwap", (event) => {
    if (!document.getElementById("list") || event.detail.target.id !== "list") return;
    for (const box of document.querySelectorAll(".pick input")) box.checked = kept.picked.includes(box.value);
    together();
    const row = rows().find((each) => each.dataset.row === kept.row);
    if (row) {
      for (const other of rows()) other.removeAttribute("aria-current");
      row.setAttribute("aria-current", "true");
    } else if (pane() && WIDE.matches && !pane().querySelector("details[data-answer][open], .card:not(.pending), .notice")) {
      select(rows()[0], false);
    }
  });
  together();
  // By hand: scrollIntoView would also move where the Tab key goes on from.
  const here = document.querySelector(".nav [aria-current]");
  if (here) here.parentElement.scrollLeft = here.offsetLeft - 60;
})();
