/* Mailman's lock protocol and the janitor's release, for exhaustive checking by spin.
 *
 * One lock, two nodes (0 and 1), three claimants, a janitor on each node. An inode is known by the
 * claimant that made it; a name is a variable that holds an inode. Time is abstract: a lock that is
 * `near` its expiry may expire at any moment, and being pushed ahead ends that.
 *
 *   claimant 1  on node 1, holds the lock at the beginning; is killed, or its node is lost and then
 *               fenced, or it gives the lock up
 *   claimant 2  on node 0; may be killed while it holds the lock
 *   claimant 3  on node 0
 *
 * Properties (the four promises):
 *   never two    an assertion where a claimant gets the lock: nobody else alive believes to hold it.
 *                Not judged after a claimant broke the expired lock of a living one: that is
 *                Mailman's own rule, with or without a janitor (facts, 2).
 *   never lost   an assertion where the janitor is done with a file: no living owner's lock is gone.
 *   never stuck  claimants 2 and 3 come to their end in every run: spin's invalid end states.
 *   never silent an assertion where a release is given up: there is a reason.
 *
 * Scope, by definition on the command line:
 *   NEAR     the first lock is near its expiry, and claimants break it when it has expired
 *   NFS      a node may go on seeing the lock it saw before another node changed it (facts, 6)
 *   CRASH_J  a janitor may be killed once between any two of its steps
 *
 * Mutants, each of which spin must break:
 *   RELEASE_WITHOUT_RECHECK  nothing is looked at again before the move
 *   TRUST_LOCK_CONTENT       the lock is known by reading its name alone, not by its claim file
 *   NO_EXPIRY_PUSH           a lock near its expiry is moved without pushing it first
 *   LOST_TAKEN_FOR_FENCED    a node that is lost counts as dead
 *   NO_GUARD                 two releases may be under way
 *   NO_NOTE                  a killed release leaves no note
 *   TRUST_DEATH_OF_NAME      a lock is dead-here because a claimant of that host died, whichever
 *
 * Not ours, and shown as such: STALLED_BREAKER lets a claimant rest between finding a lock expired
 * and removing it, as a stopped process would. It then removes whatever has come in the meantime;
 * Mailman alone has this fault too (contract, 1.3, "Bug").
 *
 * Lines that begin with `@` are the trace that tests/model replays on real files.
 */

#define CLAIMANTS 3
#define NODE(p) ((p) == 1 -> 1 : 0)

byte lock = 1;                      /* the inode under the lock's name; 0: no such file */
bool claim[CLAIMANTS + 1];          /* whether the claim file of p is there (it is inode p) */
bool alive[CLAIMANTS + 1];
bool believes[CLAIMANTS + 1];       /* the claimant thinks that it holds the lock */
bool expired[CLAIMANTS + 1];
byte changes[CLAIMANTS + 1];        /* ctime: counts touches, links and unlinks */
bool fenced_since[CLAIMANTS + 1];   /* its node was fenced after the inode's last change */
bool lost = false;                  /* node 1 is off the network, its processes live */
bool down = false;                  /* node 1 was fenced and is not back */
bool cut_off[2];                    /* the node's janitor was killed with it, and has not noticed */
bool near = false;
bool peer_broke = false;            /* a claimant broke the lock of a living one */
byte stale[2];                      /* what node n goes on seeing under the lock's name */
byte guard = 0;                     /* whose the guard is: node + 1 */
byte note = 0;                      /* the inode of an interrupted release */
bool note_pushed = false;
byte moved = 0;                     /* the inode in quarantine under the lock's name */
byte evidence = 0;                  /* lines written */
bool killed_two = false;
byte crashes = 0;                   /* how many times a janitor may still be killed */

#ifdef TRACE
#define SAY(what, who) printf("@ %s %d | %d %d%d%d %d %d\n", what, who, lock, claim[1], claim[2], \
    claim[3], note, evidence)
#else
#define SAY(what, who)
#endif

#define CHANGE(i) changes[i] = (changes[i] + 1) % 8; fenced_since[i] = false

/* Another node may keep the old view of the name, as long as the old inode has another name. */
inline forget_or_keep(by)
{
#ifdef NFS
    if
    :: lock != 0 && claim[lock] -> stale[1 - by] = lock
    :: true
    fi
#else
    skip
#endif
}

inline try_link(p)
{
    assert(lock == 0);
    forget_or_keep(NODE(p));
    lock = p;
    CHANGE(p);
    believes[p] = true;
    assert(peer_broke || !(p != 1 && alive[1] && believes[1]));
    assert(peer_broke || !(p != 2 && alive[2] && believes[2]));
    assert(peer_broke || !(p != 3 && alive[3] && believes[3]));
    SAY("link", p)
}

inline break_lock(p)
{
    if
    :: lock != 0 ->
        if
        :: alive[lock] && believes[lock] -> peer_broke = true
        :: else
        fi;
        forget_or_keep(NODE(p));
        victim = lock;
        lock = 0;
        claim[victim] = false;
        CHANGE(victim)
    :: else
    fi;
    SAY("break", p)
}

proctype Claimant(byte p)
{
    byte victim = 0;
    if
    :: p == 1 -> goto holding
    :: else
    fi;
    atomic { claim[p] = true; SAY("claim", p) };
again:
    if
    :: atomic { lock == 0 && claim[p] -> try_link(p) }; goto holding
    :: atomic { !claim[p] -> claim[p] = true; SAY("claim", p) }; goto again
#ifdef STALLED_BREAKER
    :: lock != 0 && expired[lock] -> atomic { break_lock(p) }; goto again
#else
    :: atomic { lock != 0 && expired[lock] -> break_lock(p) }; goto again
#endif
    fi;
holding:
    if
    :: !alive[p] -> goto dead
    :: atomic { p == 2 && !killed_two && alive[p] ->
            killed_two = true; alive[p] = false; SAY("kill", p) }; goto dead
    :: atomic { alive[p] ->
            believes[p] = false;
            if
            :: lock == p -> forget_or_keep(NODE(p)); lock = 0; CHANGE(p)
            :: else
            fi;
            SAY("unlock", p) }
    fi;
    if
    :: atomic { alive[p] -> claim[p] = false; CHANGE(p); SAY("unclaim", p) }
    :: !alive[p]
    fi;
dead:
    skip
}

/* What happens to node 1 and its claimant, if anything does. */
proctype Accident()
{
    if
    :: true
    :: atomic { alive[1] -> alive[1] = false; SAY("kill", 1) }
    :: atomic { true -> lost = true; SAY("lose", 1) };
       atomic { alive[1] = false; lost = false; down = true;
                fenced_since[1] = true; cut_off[1] = true; SAY("fence", 1) };
       if
       :: atomic { down = false; SAY("rejoin", 1) }
       :: true
       fi
    fi
}

proctype Time()
{
end:
    do
    :: atomic { near && lock == 1 && !expired[1] -> expired[1] = true; SAY("expire", 1) }
#ifdef NFS
    :: stale[0] != 0 -> stale[0] = 0
    :: stale[1] != 0 -> stale[1] = 0
#endif
    od
}

#define SEEN(n) (stale[n] != 0 -> stale[n] : lock)

/* Dead here: of this host, and gone (of node 1 also: the host booted since). Fenced: of the other
 * node, which was fenced after the inode was last changed. */
#ifdef TRUST_DEATH_OF_NAME
#define DEAD_HERE(n, i) (NODE(i) == n && (!alive[i] || (n == 0 && killed_two)))
#else
#define DEAD_HERE(n, i) (NODE(i) == n && !alive[i])
#endif
#ifdef LOST_TAKEN_FOR_FENCED
#define FENCED(n, i) (NODE(i) != n && (fenced_since[i] || (n == 0 && lost)))
#else
#define FENCED(n, i) (NODE(i) != n && fenced_since[i])
#endif
#define DEAD(n, i) (DEAD_HERE(n, i) || FENCED(n, i))

#ifdef TRUST_LOCK_CONTENT
#define KNOWN(n, i) (i != 0)
#define UNCHANGED(n, i, was) (SEEN(n) == i)
#else
#define KNOWN(n, i) (i != 0 && i == lock && claim[i])
#define UNCHANGED(n, i, was) (SEEN(n) == i && changes[i] == was && claim[i] && lock == i)
#endif

/* A killed janitor loses the guard in time (its lifetime is short), and is started again. */
#ifdef CRASH_J
#define MAY_CRASH :: atomic { crashes > 0 -> crashes--; guard = 0; SAY("crash", n) }; goto wait
#else
#define MAY_CRASH
#endif
#define GONE :: atomic { cut_off[n] -> guard = (guard == n + 1 -> 0 : guard) }; goto wait
#define HERE !cut_off[n]

proctype Janitor(byte n)
{
    byte i = 0, was = 0, why = 0;
end_wait:
wait:
    atomic { i = 0; was = 0; why = 0; cut_off[n] = false };
end_ready:
    if
    :: atomic { HERE && !(n == 1 && (down || lost)) && guard == 0 && note != 0 -> guard = n + 1;
            SAY("resume", n) }; goto resume
    :: atomic { HERE && !(n == 1 && (down || lost)) && KNOWN(n, SEEN(n)) && DEAD(n, SEEN(n)) ->
            i = SEEN(n); was = changes[i]; SAY("judge", n) }
    fi;
#ifndef NO_GUARD
    if
    :: atomic { HERE && guard == 0 && note == 0 -> guard = n + 1; SAY("guard", n) }
    :: atomic { HERE && guard == 0 && note != 0 -> guard = n + 1; i = 0; SAY("resume", n) }; goto resume
    GONE
    fi;
#endif
#ifndef RELEASE_WITHOUT_RECHECK
    if
    :: HERE && UNCHANGED(n, i, was)
    :: HERE && !UNCHANGED(n, i, was) -> why = 1; goto refuse
    GONE
    fi;
#endif
    if
#ifndef NO_NOTE
    :: atomic { HERE -> note = i; note_pushed = false; SAY("note", n) }
#else
    :: HERE
#endif
    MAY_CRASH
    GONE
    fi;
#ifndef NO_EXPIRY_PUSH
    if
    :: HERE && (!near || i != 1)
    :: atomic { HERE && near && i == 1 && lock == 1 -> near = false; expired[1] = false; CHANGE(1);
            was = changes[1]; note_pushed = true; SAY("push", n) }
    :: HERE && near && i == 1 && lock != 1 -> why = 2; goto refuse
    MAY_CRASH
    GONE
    fi;
#endif
look:
#ifndef RELEASE_WITHOUT_RECHECK
    if
    :: atomic { HERE && UNCHANGED(n, i, was) -> SAY("look", n) }
    :: HERE && !UNCHANGED(n, i, was) -> why = 3; goto refuse
    MAY_CRASH
    GONE
    fi;
#endif
    if
    :: atomic { HERE && lock != 0 -> forget_or_keep(n); moved = lock; lock = 0; CHANGE(moved);
            SAY("move", n) }
    :: HERE && lock == 0 -> why = 4; goto refuse
    MAY_CRASH
    GONE
    fi;
after:
    if
    :: HERE && moved == i
    :: atomic { HERE && moved != i && lock == 0 -> lock = moved; moved = 0; CHANGE(lock);
            SAY("back", n) }; why = 5; goto refuse
    :: HERE && moved != i && lock != 0 ->
        assert(peer_broke || !(alive[moved] && believes[moved])); why = 6; goto refuse
    MAY_CRASH
    GONE
    fi;
    if
    :: atomic { HERE -> claim[i] = false; SAY("unname", n) }
    MAY_CRASH
    GONE
    fi;
    if
    :: atomic { HERE -> evidence++; moved = 0; note = 0;
            assert(peer_broke || !(alive[i] && believes[i]));
            guard = 0; SAY("log", n) }
    MAY_CRASH
    GONE
    fi;
    goto wait;

resume:
    i = note;
    if
    :: HERE && i != 0 && moved == i -> goto after
    :: atomic { HERE && i != 0 && moved != i && note_pushed && lock == i && claim[i] ->
            was = changes[i] }; goto look
    :: atomic { HERE && (i == 0 || moved != i && !(note_pushed && lock == i && claim[i])) ->
            note = 0; note_pushed = false; guard = 0; SAY("forget", n) }; goto wait
    GONE
    fi;

refuse:
    assert(why != 0);
    if
    :: atomic { HERE -> note = 0; guard = 0; SAY("refuse", n) }
    GONE
    fi;
    goto wait
}

init
{
    atomic {
        alive[1] = true; alive[2] = true; alive[3] = true;
        claim[1] = true; believes[1] = true;
#ifdef NEAR
        near = true;
#endif
#ifdef CRASH_J
        crashes = 1;
#endif
        SAY("begin", 0);
        run Claimant(1); run Claimant(2); run Claimant(3);
        run Accident(); run Time(); run Janitor(0); run Janitor(1)
    }
}
