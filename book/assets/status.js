// The status page: claims are folded by element, and can be filtered by verdict. Without scripts all are visible.
(() => {
  const elements = [...document.querySelectorAll("details.element")];
  const filter = document.querySelector("fieldset.filter");
  if (!filter) return;

  for (const history of document.querySelectorAll("details.history")) history.open = false;

  // Of the lists in an element, that of the claims has verdicts; its history has none.
  const claims = element => [...element.querySelectorAll("li")].filter(item => item.querySelector(".verdict"));
  const show = word => {
    for (const element of elements) {
      const items = claims(element);
      for (const item of items) item.hidden = word && item.querySelector(".verdict").textContent !== word;
      element.hidden = Boolean(word) && items.every(item => item.hidden);
      element.open = Boolean(word) && !element.hidden;
    }
  };
  filter.addEventListener("change", event => show(event.target.value));
  filter.hidden = false;
  show(filter.querySelector("input:checked").value);

  const unfold = () => {  // a link into a folded element, and printing, need it open
    const goal = document.getElementById(location.hash.slice(1));
    goal?.closest("details")?.setAttribute("open", "");
  };
  addEventListener("hashchange", unfold);
  unfold();
  addEventListener("beforeprint", () => document.querySelectorAll("details").forEach(d => { d.open = true; }));
})();
