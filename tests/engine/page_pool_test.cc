// PagePool: counts, exact prefix hits, and eviction order; random operations against a model.
#include "engine/page_pool.h"

#include <algorithm>
#include <map>
#include <random>
#include <utility>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace baram {
namespace {

using ::testing::ElementsAre;

// A chain of pages held as by a sequence.
struct Chain {
  std::vector<int32_t> ids;
  std::vector<std::vector<int32_t>> pages;  // [group][block]; -1: released
  PrefixNode node;
};

class PagePoolTest : public ::testing::Test {
 protected:
  void Make(int32_t pages, std::vector<int32_t> windows, size_t hash_mask = ~size_t{0}) {
    pool_ = std::make_unique<PagePool>(PagePoolShape{.pages = pages,
                                                     .page_tokens = 2,
                                                     .windows = windows,
                                                     .max_blocks = 64,
                                                     .hash_mask = hash_mask});
    salt_ = pool_->AcquireSalt("");
  }

  // Computes and publishes `ids` like a new sequence that finds no prefix.
  Chain Publish(const std::vector<int32_t>& ids, int32_t salt) {
    Chain chain{.ids = ids, .pages = {}, .node = {}};
    chain.pages.resize(pool_->groups());
    Extend(chain, 0, salt);
    return chain;
  }
  Chain Publish(const std::vector<int32_t>& ids) { return Publish(ids, salt_); }

  void Extend(Chain& chain, size_t first_block, int32_t salt) {
    const auto page_tokens = static_cast<size_t>(pool_->page_tokens());
    for (size_t block = first_block; (block + 1) * page_tokens <= chain.ids.size(); ++block) {
      std::vector<int32_t> pages;
      for (int32_t group = 0; group < pool_->groups(); ++group) pages.push_back(pool_->Allocate());
      const auto published = pool_->Publish(
          salt, chain.node, std::span(chain.ids).subspan(block * page_tokens, page_tokens), pages);
      ASSERT_TRUE(published);
      chain.node = published->node;
      for (int32_t group = 0; group < pool_->groups(); ++group) {
        chain.pages[group].push_back(pages[group]);
      }
    }
  }

  void Release(Chain& chain) {
    for (auto& pages : chain.pages) {
      for (const int32_t page : pages) {
        if (page >= 0) pool_->Release(page);
      }
      pages.clear();
    }
  }

  void Check(const std::vector<const Chain*>& held) {
    std::vector<int32_t> references(pool_->total(), 0);
    for (const Chain* chain : held) {
      for (const auto& pages : chain->pages) {
        for (const int32_t page : pages) {
          if (page >= 0) ++references[page];
        }
      }
    }
    pool_->CheckInvariants(references);
  }

  int32_t Matched(const std::vector<int32_t>& ids) {
    return pool_->Match(salt_, ids, static_cast<int32_t>(ids.size())).blocks();
  }

  std::unique_ptr<PagePool> pool_;
  int32_t salt_ = -1;
};

TEST_F(PagePoolTest, FindsTheLongestPublishedPrefixUnderTheCap) {
  Make(16, {0});
  Chain chain = Publish({1, 2, 3, 4, 5, 6});
  EXPECT_EQ(Matched({1, 2, 3, 4, 5, 6}), 3);
  EXPECT_EQ(Matched({1, 2, 3, 4, 9, 9}), 2);
  EXPECT_EQ(Matched({3, 4, 5, 6}), 0);
  const std::vector<int32_t> ids = {1, 2, 3, 4, 5, 6};
  EXPECT_EQ(pool_->Match(salt_, ids, 5).blocks(), 2);
  Check({&chain});
  // The number of its pages that taking the match removes from the available ones.
  EXPECT_EQ(pool_->Match(salt_, ids, 6).cached, 0);
  Release(chain);
  EXPECT_EQ(pool_->Match(salt_, ids, 6).cached, 3);
  EXPECT_EQ(pool_->Match(salt_, ids, 5).cached, 2);
}

TEST_F(PagePoolTest, SaltsNeverShare) {
  Make(16, {0}, /*hash_mask=*/0);  // not even with equal hashes
  Chain chain = Publish({1, 2, 3, 4});
  const int32_t other = pool_->AcquireSalt("other");
  const std::vector<int32_t> ids = {1, 2, 3, 4};
  EXPECT_EQ(pool_->Match(other, ids, 4).blocks(), 0);
  Chain twin = Publish(ids, other);
  EXPECT_NE(chain.pages[0], twin.pages[0]);
  pool_->ReleaseSalt(other);
  EXPECT_EQ(pool_->AcquireSalt("other"), other) << "kept while its pages are";
  Check({&chain, &twin});
  // A released number is reused for the next salt, and only for that.
  const int32_t gone = pool_->AcquireSalt("gone");
  pool_->ReleaseSalt(gone);
  EXPECT_EQ(pool_->AcquireSalt("next"), gone);
  EXPECT_NE(pool_->AcquireSalt("gone"), gone);
}

TEST_F(PagePoolTest, EqualPrefixesComputedAtOnceShareTheirPages) {
  Make(16, {0});
  Chain first = Publish({1, 2, 3, 4});
  Chain second = Publish({1, 2, 3, 4});
  EXPECT_EQ(first.pages, second.pages);
  EXPECT_EQ(pool_->available(), 14);
  Check({&first, &second});
}

TEST_F(PagePoolTest, ReleasedPagesStayCachedAndAreTakenBackOldestLeafFirst) {
  Make(4, {0});
  Chain older = Publish({1, 2, 3, 4});
  Chain newer = Publish({5, 6, 7, 8});
  Release(older);
  Release(newer);
  EXPECT_EQ(pool_->cached(), 4);
  EXPECT_EQ(pool_->free(), 0);
  Chain third = Publish({9, 9});
  EXPECT_EQ(Matched({1, 2, 3, 4}), 1) << "the leaf went first";
  EXPECT_EQ(Matched({5, 6, 7, 8}), 2);
  Chain fourth = Publish({8, 8});
  EXPECT_EQ(Matched({1, 2, 3, 4}), 0);
  EXPECT_EQ(Matched({5, 6, 7, 8}), 2);
  Check({&third, &fourth});
}

// The leaf is the oldest, and its parent was used since.
TEST_F(PagePoolTest, AParentIsAsOldAsItsOwnLastUse) {
  Make(3, {0});
  Chain chain = Publish({1, 2, 3, 4}), other = Publish({9, 9});
  const std::vector<int32_t> ids = {1, 2};
  Chain user{.ids = ids, .pages = {{pool_->Take(pool_->Match(salt_, ids, 2), 0, 0)}}, .node = {}};
  Release(chain);
  Release(other);
  Release(user);
  Chain next = Publish({5, 5});
  EXPECT_EQ(Matched({1, 2, 3, 4}), 1);
  EXPECT_EQ(Matched({9, 9}), 1);
  Chain last = Publish({6, 6});
  EXPECT_EQ(Matched({1, 2}), 1);
  EXPECT_EQ(Matched({9, 9}), 0);
  Check({&next, &last});
}

// Not the newest as soon as a few are older.
TEST_F(PagePoolTest, AParentFindsItsPlaceBehindOlderOnes) {
  Make(6, {0});
  Chain chain = Publish({1, 2, 3, 4});
  const std::vector<int32_t> ids = {1, 2};
  Chain user{.ids = ids, .pages = {{pool_->Take(pool_->Match(salt_, ids, 2), 0, 0)}}, .node = {}};
  std::vector<Chain> older;
  for (const int32_t id : {5, 6, 7}) older.push_back(Publish({id, id}));
  Chain newer = Publish({9, 9});
  Release(chain);
  for (Chain& one : older) Release(one);
  Release(user);
  Release(newer);
  // The leaf, the older ones and then the parent are taken back.
  Chain next = Publish({0, 0, 0, 0, 0, 0, 0, 0});
  EXPECT_EQ(Matched({1, 2}), 1);
  Chain last = Publish({8, 8});
  EXPECT_EQ(Matched({1, 2}), 0);
  EXPECT_EQ(Matched({9, 9}), 1);
  Check({&next, &last});
}

TEST_F(PagePoolTest, WhatIsHeldIsNeverTakenBack) {
  Make(4, {0});
  Chain held = Publish({1, 2, 3, 4});
  Chain gone = Publish({1, 2, 5, 6});
  EXPECT_EQ(gone.pages[0][0], held.pages[0][0]);
  Release(gone);
  EXPECT_EQ(pool_->available(), 2);
  Chain next = Publish({7, 7, 8, 8});
  EXPECT_EQ(Matched({1, 2, 3, 4}), 2);
  EXPECT_EQ(Matched({1, 2, 5, 6}), 1);
  EXPECT_EQ(pool_->available(), 0);
  Check({&held, &next});
}

TEST_F(PagePoolTest, WindowsNeedOnlyThePagesAtTheEnd) {
  // Window 3: the token at position 6 sees 4 .. 6.
  Make(16, {0, 3});
  EXPECT_EQ(pool_->FirstNeededBlock(0, 6), 0);
  EXPECT_EQ(pool_->FirstNeededBlock(1, 6), 2);
  EXPECT_EQ(pool_->FirstNeededBlock(1, 5), 1);
  Chain chain = Publish({1, 2, 3, 4, 5, 6});
  const std::vector<int32_t> ids = chain.ids;
  const PrefixMatch match = pool_->Match(salt_, ids, 6);
  EXPECT_EQ(match.blocks(), 3);
  EXPECT_EQ(pool_->Take(match, 1, 0), -1);
  EXPECT_EQ(pool_->Take(match, 1, 1), -1);
  EXPECT_EQ(pool_->Take(match, 1, 2), chain.pages[1][2]);
  EXPECT_EQ(pool_->Take(match, 0, 0), chain.pages[0][0]);
  Chain second{
      .ids = ids, .pages = {{chain.pages[0][0], -1, -1}, {-1, -1, chain.pages[1][2]}}, .node = {}};
  Release(second);
  Check({&chain});
}

TEST_F(PagePoolTest, AWindowsPagesGoAloneAndShortenTheMatch) {
  Make(6, {0, 3});
  Chain chain = Publish({1, 2, 3, 4, 5, 6});
  // Slide the window: the windowed pages of the first two blocks become evictable.
  for (const int32_t block : {0, 1}) {
    pool_->Release(std::exchange(chain.pages[1][block], -1));
  }
  EXPECT_EQ(pool_->available(), 2);
  const int32_t page = pool_->Allocate();
  Chain other{.ids = {}, .pages = {{page}, {}}, .node = {}};
  Check({&chain, &other});
  EXPECT_EQ(Matched({1, 2, 3, 4, 5, 6}), 3) << "its window is still there";
  EXPECT_EQ(Matched({1, 2, 9, 9}), 0) << "the page of block 0 was taken";
  EXPECT_EQ(Matched({1, 2, 3, 4, 9, 9}), 2);
}

TEST_F(PagePoolTest, WhatAWindowLeftIsTakenBackFirst) {
  Make(10, {0, 3});
  Chain idle = Publish({1, 2, 3, 4, 5, 6});
  Release(idle);
  Chain chain = Publish({11, 12, 13, 14});
  const int32_t left = std::exchange(chain.pages[1][0], -1);
  pool_->ReleaseBehindWindow(left);
  EXPECT_EQ(pool_->Allocate(), left) << "though it was used last";
  Chain other{.ids = {}, .pages = {{left}, {}}, .node = {}};
  Check({&chain, &other});
  EXPECT_EQ(Matched({1, 2, 3, 4, 5, 6}), 3);
}

TEST_F(PagePoolTest, AModelOfWindowsOnlyKeepsChainsWithoutPages) {
  Make(3, {2});
  Chain chain{.ids = {1, 2, 3, 4, 5, 6, 7, 8}, .pages = {{}}, .node = {}};
  const std::vector<int32_t> ids = chain.ids;
  for (size_t block = 0; block < 4; ++block) {
    std::vector<int32_t> page = {pool_->Allocate()};
    const auto published =
        pool_->Publish(salt_, chain.node, std::span(ids).subspan(2 * block, 2), page);
    ASSERT_TRUE(published);
    chain.node = published->node;
    chain.pages[0].push_back(page[0]);
    if (block > 0) pool_->Release(std::exchange(chain.pages[0][block - 1], -1));
    Check({&chain});
  }
  EXPECT_EQ(Matched(ids), 4) << "block 0 lost its page but still leads to block 3";
  EXPECT_EQ(Matched({1, 2}), 0);
}

TEST_F(PagePoolTest, AGoneParentIsNoticed) {
  Make(2, {2});
  Chain chain = Publish({1, 2});
  Release(chain);
  const int32_t first = pool_->Allocate(), second = pool_->Allocate();
  EXPECT_FALSE(pool_->Alive(chain.node));
  std::vector<int32_t> pages = {first};
  const std::vector<int32_t> ids = {3, 4};
  EXPECT_FALSE(pool_->Publish(salt_, chain.node, ids, pages));
  pool_->Release(first);
  pool_->Release(second);
  Check({});
}

// Not even if another prefix has its place, and the same page below it.
TEST_F(PagePoolTest, AGoneParentIsNotMistakenForAnother) {
  Make(4, {0});
  Chain gone = Publish({1, 2});
  Chain held{.ids = {}, .pages = {{}}, .node = {}};
  for (int i = 0; i < 3; ++i) held.pages[0].push_back(pool_->Allocate());
  Release(gone);
  Chain other = Publish({9, 9});
  ASSERT_EQ(other.node.index, gone.node.index);
  Release(held);
  other.ids.insert(other.ids.end(), {5, 6});
  Extend(other, 1, salt_);
  std::vector<int32_t> pages = {pool_->Allocate()};
  EXPECT_FALSE(pool_->Publish(salt_, gone.node, std::vector<int32_t>{5, 6}, pages));
  held.pages[0] = pages;
  Check({&other, &held});
}

// Of those that it takes back here, only the last lets nodes go: all of a chain.
TEST_F(PagePoolTest, CachedPagesMakeRoomForNodes) {
  Make(4, {2});  // and 68 nodes
  const auto slide = [&](int32_t id, int32_t blocks) {
    Chain chain{.ids = {}, .pages = {{}}, .node = {}};
    for (int32_t block = 0; block < blocks; ++block) {
      chain.ids.insert(chain.ids.end(), {id, id});
      Extend(chain, block, salt_);
      if (block > 0) pool_->ReleaseBehindWindow(std::exchange(chain.pages[0][block - 1], -1));
    }
    return chain;
  };
  Chain first = slide(1, 60);
  Release(first);
  Chain second = slide(2, 20);
  Check({&second});
}

TEST_F(PagePoolTest, SaysWhichPagesAMatchTakes) {
  Make(16, {0, 3});
  Chain chain = Publish({1, 2, 3, 4, 5, 6, 7, 8});
  Chain other = Publish({1, 2, 9, 9});
  const PrefixMatch match = pool_->Match(salt_, chain.ids, 6);
  ASSERT_EQ(match.blocks(), 3);
  for (int32_t group = 0; group < 2; ++group) {
    for (int32_t block = 0; block < 4; ++block) {
      const bool taken = block < 3 && block >= pool_->FirstNeededBlock(group, 6);
      EXPECT_EQ(pool_->WouldReuse(match, block, chain.pages[group][block]), taken) << block;
    }
    EXPECT_FALSE(pool_->WouldReuse(match, 1, other.pages[group][1]));
  }
  Check({&chain, &other});
}

TEST_F(PagePoolTest, AncestorsAreFound) {
  Make(8, {0});
  Chain chain = Publish({1, 2, 3, 4, 5, 6});
  const std::vector<int32_t> prefix = {1, 2};
  EXPECT_EQ(pool_->Ancestor(chain.node, 2).index, pool_->Match(salt_, prefix, 2).node.index);
  EXPECT_EQ(pool_->Ancestor(chain.node, 3).index, -1);
  Check({&chain});
}

TEST_F(PagePoolTest, WhatIsUnpublishedIsFoundNoMoreAndStaysWithItsHolders) {
  for (const size_t hash_mask : {size_t{0}, ~size_t{0}}) {
    Make(12, {0}, hash_mask);
    Chain held = Publish({1, 2, 3, 4});
    Chain gone = Publish({1, 2, 5, 6});
    Chain other = Publish({7, 8, 9, 9});
    Release(gone);
    const std::vector<int32_t> first = {1, 2};
    pool_->Unpublish(salt_, first);
    EXPECT_EQ(Matched({1, 2, 3, 4}), 0);
    EXPECT_EQ(Matched({1, 2, 5, 6}), 0);
    EXPECT_EQ(Matched({7, 8, 9, 9}), 2);
    Check({&held, &other});
    // Its holder extends it, and finds nothing; the same tokens enter the index again.
    held.ids.insert(held.ids.end(), {5, 5});
    Extend(held, 2, salt_);
    Chain anew = Publish({1, 2, 3, 4});
    EXPECT_NE(anew.pages[0][0], held.pages[0][0]);
    EXPECT_EQ(Matched({1, 2, 3, 4, 5, 5}), 2);
    Check({&held, &other, &anew});
    // Unreferenced pages are evicted like any other cached ones.
    Release(held);
    EXPECT_EQ(pool_->available(), 8);
    Chain rest = Publish({0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0});
    EXPECT_EQ(pool_->available(), 0);
    EXPECT_EQ(Matched({1, 2, 3, 4}), 2);
    pool_->Unpublish(salt_, std::vector<int32_t>{4, 4});
    Check({&other, &anew, &rest});
  }
}

// Random sequences arrive, find prefixes, grow, slide and leave. A hit must be a prefix that was
// really published, and every page of it must hold what its publisher computed.
TEST_F(PagePoolTest, RandomOperationsKeepEveryCountAndContent) {
  for (uint64_t seed = 0; seed < 30; ++seed) {
    std::mt19937_64 random(seed);
    const std::vector<std::vector<int32_t>> shapes = {{0}, {0, 3}, {5}, {0, 1, 4}, {2, 7}};
    const std::vector<int32_t> windows = shapes[seed % shapes.size()];
    const auto groups = static_cast<int32_t>(windows.size());
    // For every other seed all hashes are equal: only the ids decide (I4).
    Make(groups * static_cast<int32_t>(6 + random() % 20), windows, seed % 2 == 0 ? 0 : ~size_t{0});
    std::map<int32_t, std::vector<int32_t>> content;  // page -> all ids up to its end
    std::vector<std::unique_ptr<Chain>> live;
    for (int step = 0; step < 600; ++step) {
      if (live.size() < 4 && random() % 3 == 0) {
        auto chain = std::make_unique<Chain>();
        for (int i = 0; i < 16; ++i) chain->ids.push_back(random() % 8 == 0 ? 1 : 0);
        const PrefixMatch match = pool_->Match(salt_, chain->ids, 15);
        chain->node = match.node;
        chain->pages.resize(groups);
        for (int32_t group = 0; group < groups; ++group) {
          for (int32_t block = 0; block < match.blocks(); ++block) {
            const int32_t page = pool_->Take(match, group, block);
            chain->pages[group].push_back(page);
            if (page < 0) continue;
            const std::vector<int32_t> prefix(chain->ids.begin(),
                                              chain->ids.begin() + 2 * (block + 1));
            ASSERT_EQ(content[page], prefix);
          }
        }
        live.push_back(std::move(chain));
      } else if (!live.empty() && random() % 64 == 0) {
        const std::vector<int32_t>& ids = live[random() % live.size()]->ids;
        pool_->Unpublish(salt_, std::span(ids).first(2));
        ASSERT_EQ(Matched(ids), 0);
      } else if (!live.empty() && random() % 4 == 0) {
        const size_t at = random() % live.size();
        Release(*live[at]);
        live.erase(live.begin() + static_cast<int64_t>(at));
      } else if (!live.empty()) {
        Chain& chain = *live[random() % live.size()];
        const size_t block = chain.pages[0].size();
        if (block == 8 || pool_->available() < groups) continue;
        std::vector<int32_t> pages;
        const std::vector<int32_t> prefix(
            chain.ids.begin(), chain.ids.begin() + 2 * (static_cast<int64_t>(block) + 1));
        for (int32_t group = 0; group < groups; ++group) {
          pages.push_back(pool_->Allocate());
          content[pages.back()] = prefix;
        }
        const auto published =
            pool_->Publish(salt_, chain.node, std::span(chain.ids).subspan(2 * block, 2), pages);
        if (published) chain.node = published->node;
        for (int32_t group = 0; group < groups; ++group) {
          ASSERT_EQ(content[pages[group]], prefix);
          chain.pages[group].push_back(pages[group]);
          const int32_t needed =
              pool_->FirstNeededBlock(group, static_cast<int32_t>(prefix.size()));
          for (int32_t b = 0; b < needed; ++b) {
            if (chain.pages[group][b] < 0) continue;
            pool_->Release(std::exchange(chain.pages[group][b], -1));
          }
        }
      }
      std::vector<const Chain*> held;
      for (const auto& chain : live) held.push_back(chain.get());
      Check(held);
    }
  }
}

}  // namespace
}  // namespace baram
