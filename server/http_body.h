// HttpBody: the body of a request as Beast's parser fills it.
#ifndef BARAM_SERVER_HTTP_BODY_H_
#define BARAM_SERVER_HTTP_BODY_H_

#include <algorithm>
#include <boost/asio/buffer.hpp>
#include <boost/beast/core/buffers_range.hpp>
#include <boost/optional.hpp>
#include <boost/system/error_code.hpp>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <utility>

namespace baram::server {

// Bytes of memory that `body` takes.
inline int64_t HeldBytes(const std::string& body) {
  return body.empty() ? 0 : static_cast<int64_t>(body.capacity());
}

// Beast's own string_body reserves what a Content-Length announces, which costs its client nothing.
// This one takes memory as bytes come: at most twice what has come, and no more than was announced.
struct HttpBody {
  using value_type = std::string;

  class reader {
   public:
    template <typename Header>
    reader(Header& /*header*/, std::string& body) : body_(body) {}

    void init(const boost::optional<uint64_t>& length, boost::system::error_code& error) {
      if (length) length_ = static_cast<size_t>(*length);
      error = {};
    }

    template <typename Buffers>
    size_t put(const Buffers& buffers, boost::system::error_code& error) {
      const size_t before = body_.size();
      Grow(before + boost::asio::buffer_size(buffers));
      for (const boost::asio::const_buffer piece : boost::beast::buffers_range_ref(buffers)) {
        body_.append(static_cast<const char*>(piece.data()), piece.size());
      }
      error = {};
      return body_.size() - before;
    }

    void finish(boost::system::error_code& error) { error = {}; }

   private:
    void Grow(size_t size) {
      if (size <= body_.capacity()) return;
      // A string that grows by itself at least doubles.
      std::string grown;
      grown.reserve(std::clamp(2 * body_.capacity(), size, std::max(size, length_)));
      grown += body_;
      body_ = std::move(grown);
    }

    std::string& body_;
    size_t length_ = std::numeric_limits<size_t>::max();  // if it was announced
  };
};

}  // namespace baram::server

#endif  // BARAM_SERVER_HTTP_BODY_H_
