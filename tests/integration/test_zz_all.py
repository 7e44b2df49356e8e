import asyncio
from tests.rig import *
from evals.shop.checks import Worked, problems
from evals.shop.outcomes import load_outcomes
async def test_all(settings, database_url):
    outs = load_outcomes(); bad=0
    async with rig(settings, database_url, None) as case:
        for t,o in outs.items():
            ex = await case.start(t)
            st = await case.advance(ex); asked=[]
            for _ in range(6):
                p = await case.pending(ex)
                if not p: break
                for a in p:
                    asked.append((a.tool,a.votes_needed)); d=await case.decide(ADA,a)
                    if a.votes_needed>1: await case.decide(BEN,a)
                st = await case.advance(ex)
            ev = await case.events(ex)
            routes=[e.data["specialist"] for e in ev if e.type=="case.routed"]
            effects=[(e.data["tool"],e.data["args"]) for e in ev if e.type=="effect.done"]
            w = Worked(st.value if st else "?", routes[0] if routes else None, effects, asked)
            pr = problems(o, w)
            e=await case.get(ex)
            print(t, w.status, w.route, [x for x,_ in effects], "OK" if not pr else pr, e.error or "", "" if not pr else (e.result or {}).get("outcome"))
            bad+=bool(pr)
    assert not bad, bad
