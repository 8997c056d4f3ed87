// What reflection answers: descriptors of the messages and services that are linked into this
// program.
#ifndef BARAM_SERVER_GRPC_DESCRIPTIONS_H_
#define BARAM_SERVER_GRPC_DESCRIPTIONS_H_

#include <string>
#include <vector>

#include "grpc/reflection/v1/reflection.pb.h"

namespace baram::server {

// The response to one request, which it repeats without unknown fields. `services`: what to list.
grpc::reflection::v1::ServerReflectionResponse Describe(
    grpc::reflection::v1::ServerReflectionRequest request,
    const std::vector<std::string>& services);

}  // namespace baram::server

#endif  // BARAM_SERVER_GRPC_DESCRIPTIONS_H_
